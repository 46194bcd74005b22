use super::*;

const LIMITS: ClientLimits = ClientLimits { frame_bytes: 1000, message_bytes: 1500 };

/// A frame as a client sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0xa2, 0x33, 0xc4];
    let mut out = vec![first];
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend((length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes(), reason].concat())
}

/// The verdict must be the same however the bytes are cut.
fn verdict(bytes: &[u8]) -> Option<Violation> {
    let whole = Inspector::new(LIMITS).take(bytes).err().map(|(_, violation)| violation);
    for size in [1, 2, 3, 7, 100] {
        let mut inspector = Inspector::new(LIMITS);
        let cut = bytes.chunks(size).find_map(|chunk| inspector.take(chunk).err()).map(|(_, violation)| violation);
        assert_eq!(cut, whole, "in pieces of {size}");
    }
    whole
}

fn breaks_protocol(bytes: &[u8]) -> bool {
    matches!(verdict(bytes), Some(Violation::Protocol(reason)) if !reason.is_empty())
}

#[test]
fn what_a_client_may_send_passes() {
    for good in [
        frame(0x81, b""),
        frame(0x81, "κόσμε \u{10ffff}".as_bytes()),
        frame(0x82, &[0xff; 1000]),
        frame(0x89, &[0xfe; 125]),
        frame(0x8a, b"unasked"),
        frame(0x88, b""),
        close(1000, b""),
        close(4999, "grüße".as_bytes()),
        // a character that is cut between fragments, with a ping between them
        [frame(0x01, b"\xce"), frame(0x89, b"p"), frame(0x00, b"\xba\xe1"), frame(0x80, b"\xbd\xb9")].concat(),
        [frame(0x02, b"\xff"), frame(0x80, b"\xfe"), frame(0x81, b"next")].concat(),
        // whatever follows a close means nothing
        [close(1000, b""), vec![0xff; 40]].concat(),
    ] {
        assert_eq!(verdict(&good), None, "{good:02x?}");
    }
}

#[test]
fn every_rule_of_framing_is_held() {
    for rsv in [0x10, 0x20, 0x40, 0x70] {
        assert!(breaks_protocol(&frame(0x81 | rsv, b"x")), "reserved bits {rsv:x}");
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        assert!(breaks_protocol(&frame(0x80 | opcode, b"")), "opcode {opcode}");
    }
    for control in [8, 9, 10] {
        assert!(breaks_protocol(&frame(control, b"")), "a fragment of {control}");
        assert!(breaks_protocol(&frame(0x80 | control, &[b'x'; 126])), "too long a {control}");
    }
    assert!(breaks_protocol(&[0x81, 0x01, b'x']), "without a mask");
    assert!(breaks_protocol(&frame(0x80, b"x")), "a continuation of nothing");
    assert!(breaks_protocol(&[frame(0x01, b"a"), frame(0x81, b"b")].concat()), "a message within another");
    assert!(breaks_protocol(&[frame(0x01, b"a"), frame(0x80, b"b"), frame(0x80, b"c")].concat()), "one too many");
    assert!(breaks_protocol(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "a length of 64 bits");
    assert!(breaks_protocol(&frame(0x88, b"x")), "half a code");
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        assert!(breaks_protocol(&close(code, b"")), "{code}");
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_by_its_first_wrong_byte() {
    for bad in [
        &b"\xff"[..],
        b"\xc0\xaf",
        b"\xe0\x80\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\x80",
        b"a\xce",
        b"\xce\xbaa\xe1\xbd",
    ] {
        assert_eq!(verdict(&frame(0x81, bad)), Some(Violation::NotUtf8), "{bad:02x?}");
        assert_eq!(verdict(&close(1000, bad)), Some(Violation::NotUtf8), "{bad:02x?}");
        assert_eq!(verdict(&frame(0x82, bad)), None, "binary is free: {bad:02x?}");
        let valid = std::str::from_utf8(bad).expect_err("it is not UTF-8");
        // a character that may still be completed is no mistake yet
        let unfinished = valid.error_len().is_none();
        assert_eq!(verdict(&frame(0x01, bad)).is_none(), unfinished, "{bad:02x?}");
    }
}

#[test]
fn a_frame_or_message_that_is_too_large_is_refused_by_its_header() {
    assert_eq!(verdict(&frame(0x82, &[0; 1001])[..8]), Some(Violation::TooLarge));
    let huge = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4];
    assert_eq!(verdict(&huge), Some(Violation::TooLarge));
    let fragments = [frame(0x01, &[b'x'; 800]), frame(0x80, &[b'x'; 701])].concat();
    assert_eq!(verdict(&fragments), Some(Violation::TooLarge), "together more than a message may have");
    let separate = [frame(0x81, &[b'x'; 800]), frame(0x81, &[b'x'; 800])].concat();
    assert_eq!(verdict(&separate), None);
}

#[test]
fn the_frames_before_the_broken_one_are_passed_on() {
    let good = [frame(0x81, b"one"), frame(0x89, b"")].concat();
    let bytes = [good.clone(), frame(0xc1, b"bad")].concat();
    assert_eq!(Inspector::new(LIMITS).take(&bytes).map_err(|(complete, _)| complete), Err(good.len()));
}

#[test]
fn frames_that_nobody_meant_get_the_same_verdict_however_they_are_cut() {
    let seeds = [
        frame(0x81, "κόσμε".as_bytes()),
        [frame(0x01, b"\xce"), frame(0x89, b"p"), frame(0x80, b"\xba")].concat(),
        close(1000, "grüße".as_bytes()),
        frame(0x82, &[0xff; 300]),
    ];
    crate::fuzz::run("frames", seeds, &[], |bytes| {
        verdict(&bytes[..bytes.len().min(4096)]);
    });
}
