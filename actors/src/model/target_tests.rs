//! Each table is named after the attack or the rule that it pins.

use super::*;
use proptest::prelude::*;

fn policy(networks: &[&str]) -> Policy {
    Policy { allow_networks: networks.iter().map(|n| network(n).unwrap()).collect(), ..Policy::default() }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn rule_of_url(url: &str) -> Option<Rule> {
    match Policy::default().judge_url(url) {
        Err(TargetError::Forbidden { rule, .. }) => Some(rule),
        Ok(_) => None,
        Err(other) => panic!("{url}: {other}"),
    }
}

#[test]
fn a_plain_https_url_is_taken_apart() {
    let target = Policy::default().judge_url("HTTPS://Example.COM:8443/Hook?a=b").unwrap();
    assert_eq!(target.url, "https://example.com:8443/Hook?a=b");
    assert_eq!((target.host.as_str(), target.port, target.https), ("example.com", 8443, true));
    assert_eq!(target.authority, "example.com:8443");
    assert_eq!(target.address, None);

    let target = Policy::default().judge_url("https://bücher.example").unwrap();
    assert_eq!((target.host.as_str(), target.port), ("xn--bcher-kva.example", 443));
    assert_eq!(
        (target.url.as_str(), target.authority.as_str()),
        ("https://xn--bcher-kva.example/", target.host.as_str())
    );

    let target = Policy::default().judge_url("https://[2606:4700:0::1111]:444/").unwrap();
    assert_eq!((target.host.as_str(), target.authority.as_str()), ("2606:4700::1111", "[2606:4700::1111]:444"));
}

#[test]
fn http_needs_the_setting_or_dev() {
    let url = "http://example.com/";
    assert_eq!(Policy::default().judge_url(url), Err(TargetError::NotHttps));
    assert!(Policy { allow_http: true, ..Policy::default() }.judge_url(url).is_ok());
    let dev = Policy { dev: true, ..Policy::default() };
    assert_eq!(dev.judge_url(url).unwrap().port, 80);
    assert!(dev.judge_url("http://127.0.0.1:9/").is_ok());
    assert!(dev.judge_url("http://[::1]:9/").is_ok());
    assert!(dev.judge_url("http://10.0.0.1/").is_err(), "dev opens the loopback and nothing else");
}

#[test]
fn an_ipv4_literal_in_any_notation_is_the_same_address() {
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "127.1",
        "127.0.1",
        "0177.0.0.1",
        "017700000001",
        "0x7F.0.0.0x1",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "①②⑦.0.0.1",
        "１２７.0.0.1",
        "127。0。0。1",
    ] {
        let url = format!("https://{host}/");
        assert_eq!(rule_of_url(&url), Some(Rule::Loopback), "{host}");
    }
    assert_eq!(rule_of_url("https://2852039166/"), Some(Rule::Metadata));
    assert_eq!(rule_of_url("https://0/"), Some(Rule::Unspecified));
    assert_eq!(rule_of_url("https://0xa.1/"), Some(Rule::Private));
    let target = Policy::default().judge_url("https://0x08080808/").unwrap();
    assert_eq!((target.host.as_str(), target.address), ("8.8.8.8", Some(address("8.8.8.8"))));
}

#[test]
fn an_ipv6_literal_that_hides_an_ipv4_address_is_seen_through() {
    for (host, rule) in [
        ("[::1]", Rule::Loopback),
        ("[0:0:0:0:0:0:0:1]", Rule::Loopback),
        ("[::]", Rule::Unspecified),
        ("[::ffff:127.0.0.1]", Rule::Embedded),
        ("[::ffff:7f00:1]", Rule::Embedded),
        ("[::ffff:10.0.0.1]", Rule::Embedded),
        ("[::127.0.0.1]", Rule::Embedded),
        ("[64:ff9b::7f00:1]", Rule::Embedded),
        ("[64:ff9b::10.1.2.3]", Rule::Embedded),
        ("[64:ff9b:1::1]", Rule::Embedded),
        ("[2002:7f00:1::]", Rule::Embedded),
        ("[2002:c0a8:101::1]", Rule::Embedded),
        ("[2001:0:4136:e378:8000:63bf:3fff:fdd2]", Rule::Embedded),
        ("[2606:4700::5efe:10.0.0.1]", Rule::Embedded),
        ("[2606:4700::200:5efe:127.0.0.1]", Rule::Embedded),
    ] {
        assert_eq!(rule_of_url(&format!("https://{host}/")), Some(rule), "{host}");
    }
    for public in ["[::ffff:8.8.8.8]", "[64:ff9b::808:808]", "[2002:808:808::1]", "[2606:4700::5efe:8.8.8.8]"] {
        assert_eq!(rule_of_url(&format!("https://{public}/")), None, "{public}");
    }
}

#[test]
fn every_special_range_is_closed_from_its_first_to_its_last_address() {
    for (first, last, rule) in [
        ("0.0.0.1", "0.255.255.255", Rule::Reserved),
        ("10.0.0.0", "10.255.255.255", Rule::Private),
        ("100.64.0.0", "100.127.255.255", Rule::Private),
        ("127.0.0.0", "127.255.255.255", Rule::Loopback),
        ("169.254.0.0", "169.254.255.255", Rule::LinkLocal),
        ("172.16.0.0", "172.31.255.255", Rule::Private),
        ("192.0.0.0", "192.0.0.255", Rule::Reserved),
        ("192.0.2.0", "192.0.2.255", Rule::Reserved),
        ("192.168.0.0", "192.168.255.255", Rule::Private),
        ("198.18.0.0", "198.19.255.255", Rule::Reserved),
        ("198.51.100.0", "198.51.100.255", Rule::Reserved),
        ("203.0.113.0", "203.0.113.255", Rule::Reserved),
        ("224.0.0.0", "239.255.255.255", Rule::Multicast),
        ("240.0.0.0", "255.255.255.254", Rule::Reserved),
        ("100::", "100::ffff:ffff:ffff:ffff", Rule::Reserved),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", Rule::Reserved),
        ("2001:2::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", Rule::Reserved),
        ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", Rule::Reserved),
        ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Rule::Reserved),
        ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Rule::Private),
        ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Rule::LinkLocal),
        ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Rule::Reserved),
        ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Rule::Multicast),
    ] {
        assert_eq!(closed_by(address(first)), Some(rule), "{first}");
        assert_eq!(closed_by(address(last)), Some(rule), "{last}");
    }
    assert_eq!(closed_by(address("255.255.255.255")), Some(Rule::Broadcast));
    for public in [
        "1.1.1.1",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "223.255.255.255",
        "9.255.255.255",
        "11.0.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "2001:200::1",
        "2606:4700:4700::1111",
        "2a00::1",
    ] {
        assert_eq!(closed_by(address(public)), None, "{public}");
    }
}

#[test]
fn a_network_that_contains_it_opens_a_private_address_only() {
    let wide = policy(&["0.0.0.0/0", "::/0", "127.0.0.0/8", "169.254.0.0/16", "169.254.169.254/31", "::1/127"]);
    for open in ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "1.1.1.1"] {
        assert_eq!(wide.judge_address(address(open)), Ok(()), "{open}");
    }
    for closed in [
        "127.0.0.1",
        "::1",
        "169.254.169.254",
        "100.100.100.200",
        "fd00:ec2::254",
        "168.63.129.16",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "2002:a00:1::",
        "192.0.2.1",
    ] {
        assert!(wide.judge_address(address(closed)).is_err(), "{closed}");
    }
    assert_eq!(policy(&["10.1.0.0/16"]).judge_address(address("10.1.9.9")), Ok(()));
    assert!(policy(&["10.1.0.0/16"]).judge_address(address("10.2.0.1")).is_err());
}

#[test]
fn an_entry_for_a_single_address_opens_exactly_that_one() {
    for text in ["127.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1", "64:ff9b::a00:1", "224.0.0.1"] {
        let open = policy(&[text]);
        assert_eq!(open.judge_address(address(text)), Ok(()), "{text}");
        for other in ["127.0.0.2", "fe80::1", "10.0.0.1", "64:ff9b::a00:2"] {
            assert!(open.judge_address(address(other)).is_err(), "{text} must not open {other}");
        }
    }
    assert!(policy(&["127.0.0.1/32"]).judge_address(address("::ffff:127.0.0.1")).is_err());
    assert_eq!(network("10.0.0.0/8 "), Err(NotANetwork));
    assert_eq!(network("localhost"), Err(NotANetwork));
}

#[test]
fn urls_that_two_readers_read_differently_are_refused() {
    for url in [
        "https:example.com",
        "https:/example.com",
        "https:///example.com",
        "https://good.example\\@evil.example/",
        "https://exa mple.com",
        "https://exam\tple.com/",
        "https://example.com/\r\nHost: evil",
        " https://example.com",
        "https://",
        "https://?x",
        "https://1.2.3.4.5/",
        "https://08.0.0.1/",
        "https://256.0.0.1/",
        "https://[::1",
        "https://exa^mple.com",
        "https://a..b/",
        "https://-.example:99999/",
        "https://[fe80::1%25eth0]/",
        "example.com",
        "https://%00/",
        "https://.../",
    ] {
        assert!(matches!(Policy::default().judge_url(url), Err(TargetError::Malformed(_))), "{url}");
    }
    let judge = |url: &str| Policy::default().judge_url(url).unwrap_err();
    assert_eq!(judge("https://user:pass@example.com/"), TargetError::Credentials);
    assert_eq!(judge("https://@example.com/"), TargetError::Credentials);
    assert_eq!(judge("https://example.com#@evil.example/"), TargetError::Fragment);
    assert_eq!(judge("https://example.com/#"), TargetError::Fragment);
    assert_eq!(judge("https://example.com:0/"), TargetError::PortZero);
    for url in ["ftp://example.com/", "file:///etc/passwd", "gopher://127.0.0.1:6379/_", "javascript://x", "ws://x/"] {
        assert_eq!(judge(url), TargetError::Scheme, "{url}");
    }
    assert_eq!(judge(&format!("https://example.com/{}", "x".repeat(URL_BYTES_MAX))), TargetError::TooLong);
}

#[test]
fn a_custom_header_cannot_reframe_the_request() {
    for name in ["Host", "content-length", "Transfer-Encoding", "CONNECTION", "Expect", "Upgrade", "TE", "Keep-Alive"] {
        assert_eq!(header_allowed(name, "x"), Err(HeaderError::Owned), "{name}");
    }
    for name in ["", "a b", "a:b", "a\r\nb", "ä", "a\0"] {
        assert_eq!(header_allowed(name, "x"), Err(HeaderError::Name), "{name:?}");
    }
    for value in ["a\r\nHost: evil", "a\n", "a\0b", "\u{7f}", "ü"] {
        assert_eq!(header_allowed("x-test", value), Err(HeaderError::Value), "{value:?}");
    }
    assert_eq!(header_allowed("Authorization", "Bearer a\tb~"), Ok(()));
    assert_eq!(header_allowed("x-test", &"x".repeat(HEADER_VALUE_BYTES_MAX + 1)), Err(HeaderError::Value));
}

#[test]
fn what_goes_on_as_it_came_may_be_longer_and_begins_no_line_either() {
    let long = "x".repeat(HEADER_VALUE_BYTES_MAX + 1);
    for value in ["", "caf\u{e9}", &long] {
        assert_eq!(header_sendable("x-test", value), Ok(()), "{value}");
    }
    for value in ["a\nb", "a\rb", "a\0b", "a\u{7f}b"] {
        assert_eq!(header_sendable("x-test", value), Err(HeaderError::Value), "{value:?}");
    }
    assert_eq!(header_sendable("Content-Length", "1"), Err(HeaderError::Owned));
    assert_eq!(header_sendable("a b", "1"), Err(HeaderError::Name));
}

proptest! {
    #[test]
    fn no_network_ever_opens_a_metadata_address(prefix in 0u8..32, v6_prefix in 0u8..128) {
        let v4 = IpNet::new(address("169.254.169.254"), prefix).unwrap();
        let v6 = IpNet::new(address("fd00:ec2::254"), v6_prefix).unwrap();
        let open = Policy { allow_http: true, allow_networks: vec![v4, v6], dev: true };
        prop_assert!(open.judge_address(address("169.254.169.254")).is_err());
        prop_assert!(open.judge_address(address("fd00:ec2::254")).is_err());
    }

    #[test]
    fn every_spelling_of_an_ipv4_address_is_judged_as_that_address(bits: u32) {
        let v4 = Ipv4Addr::from(bits);
        let [a, b, c, d] = v4.octets();
        let tail = (u32::from(b) << 16) | (u32::from(c) << 8) | u32::from(d);
        for host in [bits.to_string(), format!("{bits:#x}"), format!("0{bits:o}"), format!("{a}.{tail}"),
            format!("{a:#x}.{b}.{}", (u32::from(c) << 8) | u32::from(d))] {
            match Policy::default().judge_url(&format!("https://{host}/")) {
                Ok(target) => {
                    prop_assert_eq!(target.address, Some(IpAddr::V4(v4)));
                    prop_assert_eq!(closed_by(v4.into()), None);
                }
                Err(error) => {
                    let rule = closed_by(v4.into());
                    prop_assert_eq!(Some(error), rule.map(|rule| TargetError::Forbidden { address: v4.into(), rule }));
                }
            }
        }
    }

    #[test]
    fn judging_any_text_never_panics(text in "\\PC{0,60}") {
        let _ = Policy::default().judge_url(&text);
        let _ = Policy::default().judge_url(&format!("https://{text}"));
    }
}

#[test]
fn a_name_of_the_loopback_is_closed_unless_the_loopback_is_open() {
    let policy = |networks: &[&str], dev| Policy {
        allow_networks: networks.iter().map(|text| network(text).expect("a network")).collect(),
        dev,
        ..Policy::default()
    };
    for url in ["https://localhost/", "https://localhost./", "https://LOCALHOST.:8443/", "https://a.localhost./x"] {
        let closed = |policy: Policy| matches!(policy.judge_url(url), Err(TargetError::Local { .. }));
        assert!(closed(Policy::default()) && closed(policy(&["127.0.0.0/8", "10.0.0.1"], false)), "{url}");
        assert!(
            policy(&["127.0.0.1"], false).judge_url(url).is_ok() && policy(&[], true).judge_url(url).is_ok(),
            "{url}"
        );
    }
    for url in ["https://localhost.example.com/", "https://mylocalhost/", "https://localhosts./"] {
        assert!(Policy::default().judge_url(url).is_ok(), "{url}");
    }
}
