//! The documents that describe the API, and whether the server's routes are theirs.

use crate::support::document::{is_of_files, kept, operations};
use crate::support::{Request, TestServer};

/// An address of the document with something in the place of each parameter.
fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| match part {
        "{folder}" => "vendor".into(),
        part if part.starts_with('{') => "nothing-of-this-name".to_owned(),
        part => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("/")
}

#[test]
fn the_server_knows_every_operation_of_the_document_and_no_other_method() {
    let server = TestServer::start(&[]);
    let documented = operations();
    let mut paths: Vec<&str> = documented.iter().map(|(_, path)| path.as_str()).collect();
    paths.dedup();
    for path in paths {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let known = documented.iter().any(|(m, p)| m == method && p == path);
            // without a credential, so that nothing is done and no stream is opened
            let answer = Request::new(server.addr(), method, &filled(path)).send();
            // a source takes requests of any method
            let is_source = path.starts_with("/webhooks/") || path.starts_with("/webhook/");
            let nothing = answer.status == 404 && answer.text().contains("There is nothing at");
            if is_of_files(path) {
                assert!(nothing, "{method} {path}: no file has this name, so the path is unknown");
                continue;
            }
            assert_eq!(answer.status != 405, known || is_source, "{method} {path} is answered {}", answer.status);
            assert!(!nothing, "{method} {path} is not routed");
        }
    }
}

#[test]
fn the_documents_are_those_of_the_repository() {
    let server = TestServer::start(&[]);
    for address in ["/openapi.json", "/asyncapi.json"] {
        let answer = server.request("GET", address).send();
        let (mut shown, kept) = (answer.expect(200), kept(&address[1..]));
        if address == "/asyncapi.json" {
            assert_eq!(shown["servers"]["http"]["host"], server.addr().to_string());
            shown["servers"] = kept["servers"].clone();
        }
        assert!(shown == kept, "{address} is not the file in docs/");
        let etag = answer.header("etag").expect("an ETag").to_owned();
        assert_eq!(server.request("GET", address).header("If-None-Match", &etag).send().status, 304);
        assert_eq!(answer.header("access-control-allow-origin"), None, "without an Origin");
    }
}

#[test]
fn the_reference_is_a_page_that_asks_no_other_host() {
    let server = TestServer::start(&[]);
    let page = server.request("GET", "/docs/reference").send();
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(!page.text().contains("<script>") && !page.text().contains("style="), "nothing is written into the page");
    for file in ["/vendor/swagger-ui-bundle.js", "/vendor/swagger-ui.css", "/app/docs.js", "/app/docs.css"] {
        assert!(page.text().contains(&format!("..{file}")), "{file}");
        assert_eq!(server.request("GET", file).send().status, 200, "{file}");
    }
}
