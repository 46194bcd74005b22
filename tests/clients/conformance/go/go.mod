module conformance

go 1.19

require stentor.dev/client v0.0.0

replace stentor.dev/client => ../../../../clients/go
