//! Trace context (W3C Recommendation, level 1): which trace a publish belongs to, kept with its events and sent on with each
//! attempt to deliver them.

use super::source::Headers;

/// The longest `tracestate` that is kept; the recommendation asks for 512 at least.
pub const STATE_BYTES_MAX: usize = 512;
/// `00-<32 hexadecimal digits>-<16>-<2>`.
const PARENT_BYTES: usize = 55;

/// The trace and span in which events were published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// In the form of version 00.
    parent: Box<str>,
    state: Option<Box<str>>,
}

impl TraceContext {
    /// What the headers of a request say; none where there is no trace, or its header is malformed.
    pub fn of(headers: &dyn Headers) -> Option<TraceContext> {
        let parent = parent(headers.get("traceparent")?)?;
        // it may stand in several headers, which are one list
        let parts = headers.all().into_iter().filter(|(name, _)| name.eq_ignore_ascii_case("tracestate"));
        let state = parts.map(|(_, value)| value.into_owned()).collect::<Vec<_>>().join(",");
        let is_good = (1..=STATE_BYTES_MAX).contains(&state.len()) && state.bytes().all(|b| (b' '..=b'~').contains(&b));
        Some(TraceContext { parent, state: is_good.then(|| state.into()) })
    }

    /// For the log, and back by [`TraceContext::from_stored`].
    pub fn stored(&self) -> String {
        format!("{}{}", self.parent, self.state.as_deref().unwrap_or_default())
    }

    pub fn from_stored(text: &str) -> Option<TraceContext> {
        let (head, state) = text.split_at_checked(PARENT_BYTES)?;
        Some(TraceContext { parent: parent(head)?, state: (!state.is_empty()).then(|| state.into()) })
    }

    /// The header of a request that belongs to the same trace, as a span of its own. `span` is random.
    pub fn child(&self, span: [u8; 8]) -> String {
        // an id of zeros is none
        let span = u64::from_be_bytes(span).max(1);
        // flags that are not known are set to zero (3.2.2.5): known are sampled, and that the trace's id is random (level 2)
        let flags = u8::from_str_radix(&self.parent[53..], 16).map_or(0, |flags| flags & 0b11);
        format!("{}{span:016x}-{flags:02x}", &self.parent[..36])
    }

    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

/// The header in the form of version 00. A later version may have more behind it.
fn parent(text: &str) -> Option<Box<str>> {
    let (head, rest) = text.split_at_checked(PARENT_BYTES)?;
    let parts: Vec<&str> = head.split('-').collect();
    let [version, trace, span, flags] = parts.as_slice() else { return None };
    let is_hex = |text: &&str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let is_id = |text: &str| text.bytes().any(|b| b != b'0');
    let fits = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2) && parts.iter().all(is_hex);
    let ends = if *version == "00" { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
    let is_good = fits && *version != "ff" && is_id(trace) && is_id(span) && ends;
    is_good.then(|| format!("00{}", &head[2..]).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(headers: &[(&str, &str)]) -> Option<TraceContext> {
        TraceContext::of(&headers)
    }

    #[test]
    fn a_trace_is_kept_and_goes_on_with_another_span() {
        let trace = of(&[("Traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]).expect("a trace");
        assert_eq!((trace.state(), TraceContext::from_stored(&trace.stored())), (Some("a=1,b=2"), Some(trace.clone())));
        assert_eq!(trace.child([1; 8]), "00-4bf92f3577b34da6a3ce929d0e0e4736-0101010101010101-01");
        assert_eq!(trace.child([0; 8]), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-01");
        for (flags, sent_on) in [("00", "00"), ("ff", "03"), ("fd", "01"), ("03", "03")] {
            let trace = of(&[("traceparent", &format!("{}{flags}", &PARENT[..53]))]).expect("a trace");
            assert!(trace.child([1; 8]).ends_with(&format!("-{sent_on}")), "{flags}");
        }
        let plain = of(&[("traceparent", PARENT)]).expect("a trace");
        assert_eq!((plain.state(), TraceContext::from_stored(&plain.stored())), (None, Some(plain.clone())));
        let later = of(&[("traceparent", &format!("cc{}-more", &PARENT[2..]))]).expect("a trace");
        assert_eq!(later.stored(), PARENT);
    }

    #[test]
    fn what_is_no_trace_is_none() {
        for bad in [
            "",
            "00",
            &PARENT.to_uppercase(),
            &PARENT[1..],
            &format!("{PARENT}-more"),
            &format!("ff{}", &PARENT[2..]),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47360-0f067aa0ba902b7-01",
        ] {
            assert_eq!(of(&[("traceparent", bad)]), None, "{bad}");
        }
        assert_eq!(of(&[("traceparent", PARENT), ("traceparent", PARENT)]), None);
        let long = "x".repeat(STATE_BYTES_MAX + 1);
        for state in ["", "a\u{e4}", &long] {
            assert_eq!(of(&[("traceparent", PARENT), ("tracestate", state)]).expect("a trace").state(), None);
        }
    }
}
