//! Chunked bodies that two servers may read in two ways (RFC 9112 7.1).

use crate::bench::Bench;

fn chunked(body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: hostile.example\r\nTransfer-Encoding: chunked\r\n\r\n{body}").into_bytes()
}

#[test]
fn i14_the_size_of_a_chunk_is_hexadecimal_digits() {
    let bench = Bench::new();
    for size in [
        "-5",
        "+5",
        "0x5",
        "5 ",
        " 5",
        "\t5",
        "5\t",
        "",
        "g",
        "5g",
        "5,",
        "5.0",
        "\u{0b}5",
        "5\0",
        "0xa",
        "h",
        "fffffffffffffffff",
        "10000000000000005",
        "100000000000000000000000000000005",
        "ffffffffffffffff0000000000000005",
    ] {
        bench.refuses_body(size, &chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n")));
    }
}

#[test]
fn i14_lines_of_chunks_end_with_cr_and_lf() {
    let bench = Bench::new();
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\rhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        "5\r\nhell\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\n\n",
        "5\r\nhello\r\n0\r\r\n",
        "5\r\nhello\r\n0\rX\n\r\n",
    ] {
        bench.refuses_body(body, &chunked(body));
    }
}

#[test]
fn i14_extensions_hide_no_line() {
    let bench = Bench::new();
    for body in [
        "5;a\nhello\r\n0\r\n\r\n",
        "5;a=b\nhello\r\n0\r\n\r\n",
        "5;a\rhello\r\n0\r\n\r\n",
        "5;a=\"b\nc\"\r\nhello\r\n0\r\n\r\n",
        "5;a=\"b\r\nhello\r\n0\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
        "0;\n\r\n",
        "0;a\n\r\n",
    ] {
        bench.refuses_body(body, &chunked(body));
    }
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(100_000));
    bench.refuses_body("a long extension", &chunked(&long));
}

#[test]
fn i14_trailers_say_nothing_about_the_message() {
    let bench = Bench::new();
    for trailer in [
        "Content-Length: 5",
        "content-length: 5",
        "Transfer-Encoding: chunked",
        "Host: other.example",
        " folded: x",
        "X: y\r\n folded",
        "X : y",
        "no colon",
        "X: y\n",
        "X: \0",
        "X\0: y",
        "X: y\rZ: z",
    ] {
        let body = format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n");
        bench.refuses_body(trailer, &chunked(&body));
    }
    let many = format!("0\r\n{}\r\n", "X: y\r\n".repeat(20_000));
    bench.refuses_body("many trailers", &chunked(&many));
}

#[test]
fn ordinary_chunks_pass() {
    let bench = Bench::new();
    for body in [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "00005\r\nhello\r\n0000\r\n\r\n",
        "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
        "5;a\r\nhello\r\n0;b=c\r\n\r\n",
        "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX-Checksum: abc\r\n\r\n",
    ] {
        bench.takes(body, &chunked(body), &["POST / "]);
    }
}
