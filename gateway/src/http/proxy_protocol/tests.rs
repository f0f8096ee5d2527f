use super::*;
use proptest::prelude::*;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

fn addresses(source: &str, destination: &str) -> Option<Addresses> {
    Some(Addresses { source: source.parse().expect("address"), destination: destination.parse().expect("address") })
}

/// A header of version 2.
fn v2(command: u8, family_and_transport: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = V2_SIGNATURE.to_vec();
    bytes.extend([0x20 | command, family_and_transport]);
    bytes.extend(u16::try_from(rest.len()).expect("short").to_be_bytes());
    bytes.extend(rest);
    bytes
}

/// 192.0.2.1:1000 to 10.0.0.1:443.
const V4_BLOCK: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 3, 232, 1, 187];

fn check(bytes: &[u8], expected: Option<Addresses>) {
    let mut more = bytes.to_vec();
    more.extend(b"GET / HTTP/1.1\r\n");
    for end in 0..bytes.len() {
        assert_eq!(parse(&bytes[..end]), Ok(Parsed::Incomplete), "{end} bytes of {bytes:?}");
    }
    for bytes in [bytes, &more] {
        let Ok(Parsed::Header { len, addresses }) = parse(bytes) else { panic!("{bytes:?}: {:?}", parse(bytes)) };
        assert_eq!(addresses, expected, "{bytes:?}");
        assert!(bytes[..len].len() == more.len() - 16, "{bytes:?}: {len} bytes");
    }
}

#[test]
fn version_1_names_two_ends() {
    check(b"PROXY TCP4 192.0.2.1 10.0.0.1 1000 443\r\n", addresses("192.0.2.1:1000", "10.0.0.1:443"));
    check(b"PROXY TCP6 2001:db8::1 fd00::1 65535 0\r\n", addresses("[2001:db8::1]:65535", "[fd00::1]:0"));
    check(b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:10.0.0.1 1 2\r\n", addresses("192.0.2.1:1", "10.0.0.1:2"));
}

#[test]
fn version_1_may_not_know_them() {
    check(b"PROXY UNKNOWN\r\n", None);
    check(b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None);
    check(b"PROXY UNKNOWN whatever there is\n or not\r\n", None);
}

#[test]
fn version_1_has_one_form() {
    for line in [
        "PROXY TCP4 192.0.2.1 10.0.0.1 1000\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 1000 443 \r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 1000 443 1\r\n",
        "PROXY TCP4  192.0.2.1 10.0.0.1 1000 443\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 01000 443\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 +1000 443\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 70000 443\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 -1 443\r\n",
        "PROXY TCP4 192.0.2.300 10.0.0.1 1000 443\r\n",
        "PROXY TCP4 192.0.2.01 10.0.0.1 1000 443\r\n",
        "PROXY TCP4 2001:db8::1 fd00::1 1000 443\r\n",
        "PROXY TCP6 192.0.2.1 10.0.0.1 1000 443\r\n",
        "PROXY TCP6 fe80::1%eth0 fd00::1 1000 443\r\n",
        "PROXY TCP5 192.0.2.1 10.0.0.1 1000 443\r\n",
        "PROXY\tTCP4 192.0.2.1 10.0.0.1 1000 443\r\n",
        "proxy TCP4 192.0.2.1 10.0.0.1 1000 443\r\n",
        "PROXY \r\n",
        "PROXY\r\n",
        "GET / HTTP/1.1\r\n",
        "\r\nGET / HTTP/1.1\r\n",
        "PROXY TCP4 192.0.2.1\0 10.0.0.1 1000 443\r\n",
        "PROXY UNKNOWN \u{fc}\u{fffd}\r\nGET / HTTP/1.1\r\n",
    ] {
        let unknown = line.starts_with("PROXY UNKNOWN");
        assert_eq!(parse(line.as_bytes()).is_ok(), unknown, "{line:?}");
    }
    assert!(parse(b"PROXY UNKNOWN \xff\xff\r\n").is_err());
}

#[test]
fn version_1_ends_with_crlf_within_107_bytes() {
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_LEN_MAX - 16));
    assert_eq!(longest.len(), V1_LEN_MAX);
    check(longest.as_bytes(), None);
    let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_LEN_MAX - 15));
    assert_eq!(parse(longer.as_bytes()), Err(Malformed("line without an end")));
    assert_eq!(parse(b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\nGET / HTTP/1.1\r\n"), Err(Malformed("not a port")));
}

#[test]
fn version_2_names_two_ends() {
    check(&v2(1, 0x11, &V4_BLOCK), addresses("192.0.2.1:1000", "10.0.0.1:443"));
    let mut block = [0; 36];
    block[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
    (block[15], block[16], block[31]) = (1, 0xfd, 1);
    block[32..].copy_from_slice(&[3, 232, 1, 187]);
    check(&v2(1, 0x21, &block), addresses("[2001:db8::1]:1000", "[fd00::1]:443"));
}

#[test]
fn type_length_values_are_passed_over() {
    let with_values = [&V4_BLOCK[..], &[0x01, 0, 2, b'h', b'2', 0x04, 0xff, 0xff]].concat();
    check(&v2(1, 0x11, &with_values), addresses("192.0.2.1:1000", "10.0.0.1:443"));
    let most = [&V4_BLOCK[..], &[0; V2_LEN_MAX - V2_FIXED_LEN - 12]].concat();
    check(&v2(1, 0x11, &most), addresses("192.0.2.1:1000", "10.0.0.1:443"));
    let more = [&most[..], &[0]].concat();
    assert_eq!(parse(&v2(1, 0x11, &more)), Err(Malformed("header too long")));
}

#[test]
fn version_2_may_leave_the_ends_as_they_are() {
    check(&v2(0, 0x00, &[]), None);
    check(&v2(0, 0x11, &V4_BLOCK), None);
    // A LOCAL header's family is to be ignored (section 2.2).
    check(&v2(0, 0xff, &V4_BLOCK), None);
    check(&v2(1, 0x00, &[1, 2, 3]), None);
    check(&v2(1, 0x12, &V4_BLOCK), None);
    check(&v2(1, 0x31, &[0; 216]), None);
}

#[test]
fn version_2_refuses_what_is_not_assigned() {
    let mut other_version = v2(1, 0x11, &V4_BLOCK);
    other_version[12] = 0x31;
    assert_eq!(parse(&other_version), Err(Malformed("unknown version")));
    assert_eq!(parse(&v2(2, 0x11, &V4_BLOCK)), Err(Malformed("unknown command")));
    assert_eq!(parse(&v2(1, 0x41, &V4_BLOCK)), Err(Malformed("unknown family or transport")));
    assert_eq!(parse(&v2(1, 0x13, &V4_BLOCK)), Err(Malformed("unknown family or transport")));
    assert_eq!(parse(&v2(1, 0x11, &V4_BLOCK[..11])), Err(Malformed("addresses longer than the header")));
    assert_eq!(parse(&v2(1, 0x21, &[0; 35])), Err(Malformed("addresses longer than the header")));
}

fn beginning() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"PROXY TCP4 ".to_vec()),
        Just(b"PROXY UNKNOWN".to_vec()),
        Just(V2_SIGNATURE.to_vec()),
        Just(v2(1, 0x11, &V4_BLOCK)),
        Just(Vec::new()),
    ]
}

proptest! {
    #[test]
    fn bytes_hold_the_invariants_of_a_header(beginning in beginning(), rest in prop::collection::vec(any::<u8>(), 0..200)) {
        crate::invariants::proxy_protocol(&[beginning, rest].concat());
    }

    #[test]
    fn what_version_1_writes_is_read(source: SocketAddr, destination: SocketAddr) {
        prop_assume!(source.is_ipv4() == destination.is_ipv4());
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let (from, to) = (source.ip(), destination.ip());
        let line = format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
        let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let named = Addresses { source: canonical(source), destination: canonical(destination) };
        prop_assert_eq!(parse(line.as_bytes()), Ok(Parsed::Header { len: line.len(), addresses: Some(named) }));
    }
}

async fn received(pieces: &[&[u8]]) -> (Result<Option<Addresses>, String>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
    client.set_nodelay(true).expect("a TCP socket");
    let (mut stream, _) = listener.accept().await.expect("accepted");
    let send = async {
        for piece in pieces {
            client.write_all(piece).await.expect("sent");
            // So that the reader may see the pieces apart; whatever it sees, the outcome is the same.
            tokio::task::yield_now().await;
        }
        client.shutdown().await.expect("ended");
    };
    let receive = async {
        let header = receive(&mut stream).await.map_err(|error| match error {
            ReceiveError::Malformed(error) => error.to_string(),
            ReceiveError::Io(error) => error.kind().to_string(),
        });
        let mut rest = String::new();
        if header.is_ok() {
            stream.read_to_string(&mut rest).await.expect("text");
        }
        (header, rest)
    };
    let both = async { tokio::join!(send, receive).1 };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("in time")
}

#[tokio::test]
async fn a_connection_gives_its_header_and_keeps_the_rest() {
    let v1 = &b"PROXY TCP4 192.0.2.1 10.0.0.1 1000 443\r\nGET / HTTP/1.1\r\n\r\n"[..];
    let v2 = [&v2(1, 0x11, &V4_BLOCK)[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
    for bytes in [v1, &v2] {
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let halves: Vec<&[u8]> = bytes.chunks(bytes.len().div_ceil(2)).collect();
        for pieces in [&[bytes][..], &single, &halves] {
            let (header, rest) = received(pieces).await;
            assert_eq!(header, Ok(addresses("192.0.2.1:1000", "10.0.0.1:443")));
            assert_eq!(rest, "GET / HTTP/1.1\r\n\r\n");
        }
    }
}

#[tokio::test]
async fn a_connection_without_a_header_is_an_error() {
    assert_eq!(received(&[b"GET / HTTP/1.1\r\n\r\n"]).await.0, Err("no PROXY header".to_owned()));
    assert_eq!(received(&[b"PROXY TCP4 192.0.2.1"]).await.0, Err("unexpected end of file".to_owned()));
    assert_eq!(received(&[]).await.0, Err("unexpected end of file".to_owned()));
}
