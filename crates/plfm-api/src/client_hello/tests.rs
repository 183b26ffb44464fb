use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

/// As a client of today says it.
fn said(name: &str) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let mut hello = Vec::new();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut hello).unwrap();
    hello
}

/// One of the days of TLS 1.0, with these extensions.
fn old(extensions: Option<&[(u16, &[u8])]>) -> Vec<u8> {
    let vector = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
    let mut body = [&[3, 1][..], &[7; 32], &[0], &vector(&[0, 0x2f]), &[1, 0]].concat();
    if let Some(extensions) = extensions {
        let all: Vec<u8> = extensions
            .iter()
            .flat_map(|(kind, content)| [&kind.to_be_bytes()[..], &vector(content)].concat())
            .collect();
        body.extend(vector(&all));
    }
    let message = [&[CLIENT_HELLO, 0][..], &vector(&body)].concat();
    records(&message, RECORD_MAX)
}

fn records(message: &[u8], each: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[RECORD_HANDSHAKE, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat();
    message.chunks(each).flat_map(record).collect()
}

fn named(name: &[u8]) -> Vec<u8> {
    let entry = [&[HOST_NAME][..], &(name.len() as u16).to_be_bytes(), name].concat();
    [&(entry.len() as u16).to_be_bytes()[..], &entry].concat()
}

fn name_of(bytes: &[u8]) -> Result<Option<Option<String>>, BadHello> {
    parse(bytes).map(|hello| hello.map(|hello| hello.name))
}

#[test]
fn every_prefix_asks_for_more_until_it_is_whole() {
    let hello = said("Shop.Example.org");
    for cut in 0..hello.len() {
        assert_eq!(parse(&hello[..cut]), Ok(None), "{cut}");
    }
    let expected = Hello { name: Some("shop.example.org".to_owned()) };
    assert_eq!(parse(&hello), Ok(Some(expected.clone())));
    // What comes after it is not looked at.
    assert_eq!(parse(&[&hello[..], &[0xff; 100]].concat()), Ok(Some(expected)));
}

#[test]
fn it_may_be_spread_over_records() {
    let hello = said("shop.example.org");
    for each in [1, 3, 4, 5, 100, hello.len()] {
        let spread = records(&hello[RECORD_HEAD..], each);
        assert_eq!(name_of(&spread), Ok(Some(Some("shop.example.org".to_owned()))), "{each}");
        assert_eq!(parse(&spread[..spread.len() - 1]), Ok(None), "{each}");
    }
}

#[test]
fn old_and_odd_ones() {
    let (grease, host) = ((0x0a0a, &[][..]), named(b"shop.example.org."));
    assert_eq!(name_of(&old(None)), Ok(Some(None)));
    assert_eq!(name_of(&old(Some(&[]))), Ok(Some(None)));
    assert_eq!(name_of(&old(Some(&[grease, (SERVER_NAME, &host), grease]))), Ok(Some(Some("shop.example.org".into()))));
    let encrypted = (0xfe0d, &[1][..]);
    assert_eq!(name_of(&old(Some(&[encrypted, (SERVER_NAME, &host)]))), Ok(Some(Some("shop.example.org".into()))));
}

#[test]
fn what_is_none_is_said_at_once() {
    for other in ["GET / HTTP/1.1\r\n", "SSH-2.0-x\r\n", "\x16\x02", "\x15\x03\x01"] {
        assert_eq!(parse(other.as_bytes()), Err(BadHello::NotTls), "{other}");
    }
    assert_eq!(parse(&records(&[2, 0, 0, 1], 4)), Err(BadHello::NotTls), "a server's hello");
    assert_eq!(parse(&[RECORD_HANDSHAKE, 3, 1, 0, 0]), Err(BadHello::Malformed), "an empty record");
    assert_eq!(parse(&[RECORD_HANDSHAKE, 3, 1, 0xff, 0xff]), Err(BadHello::Malformed), "too long a record");
    assert_eq!(parse(&records(&[CLIENT_HELLO, 1, 0, 0], 4)), Err(BadHello::TooLong), "a message of 64 KiB");
    for name in [&b""[..], b"a b", b"a\0b", &[b'a'; 254], "\u{e4}.org".as_bytes()] {
        assert_eq!(name_of(&old(Some(&[(SERVER_NAME, &named(name))]))), Err(BadHello::Malformed), "{name:?}");
    }
    let address = [&[0, 5, 1, 0, 2][..], b"ab"].concat();
    assert_eq!(name_of(&old(Some(&[(SERVER_NAME, &address)]))), Err(BadHello::Malformed), "another kind of name");
}

#[test]
fn no_change_of_a_byte_makes_it_panic() {
    let hello = said("shop.example.org");
    for place in 0..hello.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff, hello[place].wrapping_add(1)] {
            let mut changed = hello.clone();
            changed[place] = value;
            let _ = parse(&changed);
        }
    }
}
