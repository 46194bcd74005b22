module stentor.dev/client

go 1.19
