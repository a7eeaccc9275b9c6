//! Tests of event files, which are read by an independent decoder and compared with bytes written by TensorBoard.

use std::fs;
use wgrad_run::EventWriter;

/// Computes the CRC-32C bit by bit from its polynomial.
fn crc32c(data: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
        }
    }
    !crc
}

fn masked(data: &[u8]) -> u32 {
    let crc = crc32c(data);
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Returns the data of each record. Panics if a CRC is wrong.
fn records(mut file: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while !file.is_empty() {
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        assert_eq!(u32::from_le_bytes(file[8..12].try_into().unwrap()), masked(&file[..8]));
        let data = &file[12..12 + length];
        assert_eq!(u32::from_le_bytes(file[12 + length..16 + length].try_into().unwrap()), masked(data));
        records.push(data.to_vec());
        file = &file[16 + length..];
    }
    records
}

#[derive(Debug, PartialEq)]
enum Field {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(Vec<u8>),
}

/// Returns the fields of a protobuf message as pairs of field number and value.
fn fields(mut message: &[u8]) -> Vec<(u64, Field)> {
    fn varint(message: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = message[0];
            *message = &message[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let take = match key & 7 {
            0 => {
                fields.push((key >> 3, Field::Varint(varint(&mut message))));
                continue;
            }
            1 => 8,
            2 => varint(&mut message) as usize,
            5 => 4,
            other => panic!("unknown wire type {other}"),
        };
        let (bytes, rest) = message.split_at(take);
        message = rest;
        let field = match key & 7 {
            1 => Field::Fixed64(bytes.try_into().unwrap()),
            5 => Field::Fixed32(bytes.try_into().unwrap()),
            _ => Field::Bytes(bytes.to_vec()),
        };
        fields.push((key >> 3, field));
    }
    fields
}

#[test]
fn decoder_crc_matches_the_published_check_value() {
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
}

#[test]
fn first_record_contains_the_file_version() {
    let folder = tempfile::tempdir().unwrap();
    let writer = EventWriter::create(folder.path()).unwrap();
    let records = records(&fs::read(writer.path()).unwrap());
    assert_eq!(records.len(), 1);
    assert_eq!(
        fields(&records[0])[1..],
        [(2, Field::Varint(0)), (3, Field::Bytes(b"brain.Event:2".to_vec()))]
    );
}

#[test]
fn scalars_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(folder.path()).unwrap();
    let long = "accuracy/".repeat(30);
    let steps = [0, 1, 127, 128, 300, u64::from(u32::MAX) + 7];
    for step in steps {
        writer.scalars_at(1.5, step, &[("loss/train", 0.25), (&long, f32::NAN)]).unwrap();
    }
    writer.sync().unwrap();
    let records = records(&fs::read(writer.path()).unwrap());
    assert_eq!(records.len(), 1 + steps.len());
    for (record, step) in records[1..].iter().zip(steps) {
        let event = fields(record);
        assert_eq!(event[0], (1, Field::Fixed64(1.5f64.to_le_bytes())));
        assert_eq!(event[1], (2, Field::Varint(step)));
        let (5, Field::Bytes(summary)) = &event[2] else {
            panic!("expected a summary in field 5, found {event:?}")
        };
        let values: Vec<_> = fields(summary)
            .into_iter()
            .map(|(number, value)| match value {
                Field::Bytes(value) if number == 1 => fields(&value),
                other => panic!("expected bytes in field 1, found {other:?}"),
            })
            .collect();
        let expected = [("loss/train", 0.25f32), (&long, f32::NAN)].map(|(tag, value)| {
            vec![(1, Field::Bytes(tag.as_bytes().to_vec())), (2, Field::Fixed32(value.to_le_bytes()))]
        });
        assert_eq!(values, expected);
    }
}

/// Bytes that `event_pb2` and `RecordWriter` of TensorBoard 2.21 write for the scalar `loss` with value 0.25, at step
/// 300 and wall time 1.5.
const KNOWN: [u8; 43] = [
    27, 0, 0, 0, 0, 0, 0, 0, 26, 13, 158, 19, 9, 0, 0, 0, 0, 0, 0, 248, 63, 16, 172, 2, 42, 13, 10, 11, 10,
    4, 108, 111, 115, 115, 21, 0, 0, 128, 62, 153, 8, 222, 237,
];

#[test]
fn scalar_record_matches_the_bytes_of_tensorboard() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(folder.path()).unwrap();
    let before = fs::read(writer.path()).unwrap().len();
    writer.scalars_at(1.5, 300, &[("loss", 0.25)]).unwrap();
    let bytes = fs::read(writer.path()).unwrap();
    assert_eq!(bytes[before..], KNOWN);
}

#[test]
fn resumed_run_writes_a_session_start() {
    let folder = tempfile::tempdir().unwrap();
    let first = EventWriter::create(folder.path()).unwrap();
    let second = EventWriter::resume(folder.path(), 41).unwrap();
    assert!(
        first.path() < second.path(),
        "the names must be in order, because TensorBoard reads files by name"
    );
    let records = records(&fs::read(second.path()).unwrap());
    let event = fields(&records[1]);
    assert_eq!(event[1..], [(2, Field::Varint(42)), (7, Field::Bytes(vec![0x08, 0x01]))]);
}

#[test]
fn missing_directory_error_includes_the_path() {
    let error = EventWriter::create(std::path::Path::new("/nowhere/run")).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot write the event file /nowhere/run/events.out.tfevents."),
        "{error}"
    );
}
