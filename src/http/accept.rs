//! What a client says it would rather have (RFC 9110, 12.4.2 and 12.5.1).

use actix_web::http::header::{ACCEPT, HeaderMap};

/// The weight among the parameters of one choice; without one that can be read, it is 1.
pub fn weight(parameters: &str) -> f32 {
    let weight = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    weight.and_then(|weight| weight.parse().ok()).filter(|weight: &f32| weight.is_finite()).unwrap_or(1.0)
}

/// Whether events are wanted as lines, all of them, and not as a page of JSON. Only who names lines gets them, and not who
/// would rather have JSON.
pub fn prefers_lines(headers: &HeaderMap) -> bool {
    let mut lines: f32 = 0.0;
    // the closer a page is named, the more it counts
    let mut page: [Option<f32>; 3] = [None; 3];
    for value in headers.get_all(ACCEPT).filter_map(|value| value.to_str().ok()) {
        for choice in value.split(',') {
            let (range, parameters) = choice.split_once(';').unwrap_or((choice, ""));
            let weight = weight(parameters);
            match range.trim().to_ascii_lowercase().as_str() {
                "application/x-ndjson" => lines = lines.max(weight),
                "application/json" => page[0] = Some(weight),
                "application/*" => page[1] = Some(weight),
                "*/*" => page[2] = Some(weight),
                _ => {}
            }
        }
    }
    let page = page.into_iter().flatten().next().unwrap_or(0.0);
    lines > 0.0 && lines >= page
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn accepting(values: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT, HeaderValue::from_static(value));
        }
        prefers_lines(&headers)
    }

    #[test]
    fn lines_are_for_those_who_name_them() {
        for accept in [
            "application/x-ndjson",
            "Application/X-NDJSON",
            "application/x-ndjson; charset=utf-8",
            "text/html, application/x-ndjson;q=0.5",
            "application/x-ndjson, */*;q=0.1",
            "application/json, application/x-ndjson",
            "application/*;q=0.9, application/json;q=0.1, application/x-ndjson ; Q=0.5",
        ] {
            assert!(accepting(&[accept]), "{accept}");
        }
        assert!(accepting(&["text/html", "application/x-ndjson"]), "a header may come twice");
    }

    #[test]
    fn a_page_is_for_those_who_do_not_or_would_rather_have_it() {
        for accept in [
            "",
            "*/*",
            "application/*",
            "application/json",
            "application/x-ndjsonp",
            "application/x-ndjson;q=0",
            "application/x-ndjson; q=0.000, */*",
            "application/json, application/x-ndjson;q=0.5",
            "application/x-ndjson;q=0.2, */*;q=0.8",
        ] {
            assert!(!accepting(&[accept]), "{accept}");
        }
    }

    #[test]
    fn a_weight_that_cannot_be_read_is_none() {
        assert!((weight("level=1; q = 0.25") - 0.25).abs() < f32::EPSILON);
        for parameters in ["", "q", "q=", "q=x", "q=nan", "charset=utf-8"] {
            assert!((weight(parameters) - 1.0).abs() < f32::EPSILON, "{parameters}");
        }
    }
}
