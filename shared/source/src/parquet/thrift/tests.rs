//! Bytes made to keep the library busy, or to ask for too much memory; and what writers write.

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use super::{Wrong, check_footer, read_page_header};

/// A number as Thrift writes it.
fn number(value: i64) -> Vec<u8> {
    unsigned(((value << 1) ^ (value >> 63)) as u64)
}

fn unsigned(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A structure of `fields`: how far behind the one before, its type, its content.
fn structure(fields: &[(u8, u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (delta, wire, content) in fields {
        bytes.push(delta << 4 | wire);
        bytes.extend(content);
    }
    bytes.push(0);
    bytes
}

fn list(wire: u8, count: u64, elements: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0xf0 | wire];
    bytes.extend(unsigned(count));
    bytes.extend(elements.concat());
    bytes
}

fn element(children: i64) -> Vec<u8> {
    structure(&[(4, 8, b"\x01a".to_vec()), (1, 5, number(children))])
}

#[track_caller]
fn refused(result: Result<(), Wrong>, byte: u64, why: &str) {
    match result {
        Err(Wrong::Bytes { byte: at, why: is }) => {
            assert!(is.contains(why), "{is}");
            assert_eq!(at, byte, "{is}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn elements_that_take_no_bytes_are_refused_where_they_stand() {
    let many = list(1, i32::MAX as u64, &[]);
    let footer = structure(&[(1, 5, number(1)), (14, 9, many.clone())]);
    refused(check_footer(&footer, 100), 109, "elements do not fit");
    // As many as there are bytes are too many as well, one list after the other.
    let some = list(9, 40, &vec![list(1, 20, &[vec![1; 20]]); 40]);
    let footer = structure(&[(15, 9, some)]);
    refused(check_footer(&footer, 0), 5, "a list of booleans");
    let map = [unsigned(3), vec![0x11], vec![1; 6]].concat();
    let footer = structure(&[(15, 11, map)]);
    refused(check_footer(&footer, 0), 3, "a list of booleans");
    let page = structure(&[(12, 9, many)]);
    let start = Instant::now();
    let read = read_page_header(&page[..], 7, u64::MAX - 7).map(|_| ());
    refused(read, 14, "elements do not fit");
    assert!(start.elapsed().as_secs() < 1);
}

#[test]
fn a_field_of_another_type_than_the_library_reads_there_is_refused() {
    let hidden = list(2, 1 << 30, &[]);
    let text = [unsigned(hidden.len() as u64), hidden].concat();
    let footer = structure(&[(1, 5, number(1)), (1, 8, text.clone())]);
    refused(check_footer(&footer, 0), 3, "field 2 has the type 8");
    let footer = structure(&[(2, 9, list(12, 1, &[structure(&[(4, 7, vec![0; 8])])]))]);
    refused(check_footer(&footer, 0), 4, "field 4 has the type 7");
    let page = structure(&[(5, 8, text)]);
    let read = read_page_header(&page[..], 0, 100).map(|_| ());
    refused(read, 1, "field 5 has the type 8");
}

#[test]
fn structures_and_groups_in_one_another_have_an_end() {
    let deep = (0..1000).fold(vec![0], |inner, _| structure(&[(1, 12, inner)]));
    let footer = structure(&[(15, 12, deep)]);
    refused(check_footer(&footer, 0), 32, "without end");
    let lists = (0..1000).fold(vec![0x03], |inner, _| [vec![0x19], inner].concat());
    let footer = structure(&[(15, 9, lists)]);
    refused(check_footer(&footer, 0), 32, "without end");
    let groups = list(12, 70, &vec![element(1); 70]);
    let footer = structure(&[(2, 9, groups)]);
    refused(check_footer(&footer, 0), 3 + 65 * 6, "stand in groups");
    // One behind the other they may be many.
    let mut elements = vec![element(2); 500];
    for at in (1..500).step_by(2) {
        elements[at] = element(0);
    }
    let footer = structure(&[(2, 9, list(12, 200, &elements[..200]))]);
    refused(check_footer(&footer, 0), 4 + 129 * 6, "stand in groups");
    let mut flat = vec![element(0); 500];
    flat[0] = element(499);
    let footer = structure(&[(2, 9, list(12, 500, &flat))]);
    check_footer(&footer, 0).unwrap();
}

#[test]
fn what_takes_memory_must_be_there() {
    let footer = structure(&[(2, 9, list(12, 1, &[element(1 << 30)]))]);
    refused(check_footer(&footer, 0), 13, "columns stand in a group");
    let footer = structure(&[(6, 8, [unsigned(u64::MAX), vec![1; 20]].concat())]);
    refused(check_footer(&footer, 0), 11, "do not fit into the 21");
    let header = |unpacked, packed, values| {
        structure(&[
            (1, 5, number(2)),
            (1, 5, number(unpacked)),
            (1, 5, number(packed)),
            (
                4,
                12,
                structure(&[(1, 5, number(values)), (1, 5, number(0))]),
            ),
        ])
    };
    let read = |bytes: &[u8]| read_page_header(bytes, 50, 1000);
    refused(
        read(&header(1 << 30, 100, 1)).map(|_| ()),
        50,
        "a page of 100 bytes",
    );
    refused(
        read(&header(1000, 100, i32::MAX.into())).map(|_| ()),
        50,
        "a dictionary of 1000 bytes",
    );
    // What is read is the header and no byte more.
    let good = header(1 << 20, 1 << 18, 1000);
    let more = [good.clone(), vec![1, 2, 3]].concat();
    assert_eq!(read(&more).unwrap(), good);
    let cut = read(&good[..good.len() - 1]).map(|_| ());
    refused(cut, 50 + good.len() as u64 - 1, "behind its end");
}
