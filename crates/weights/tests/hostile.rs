//! Damaged and malicious files cause errors that state the problem. They cause neither panics nor large allocations.

mod support;

use support::*;
use wgrad_weights::WeightsError;

fn plain(extension: &str) -> Vec<u8> {
    std::fs::read(fixture(&format!("pth/plain.{extension}"))).unwrap()
}

#[test]
fn every_truncation_of_a_file_is_an_error() {
    for extension in ["pth", "safetensors"] {
        let bytes = plain(extension);
        for end in 0..bytes.len() {
            assert!(parse(&bytes[..end]).is_err(), "{extension} truncated to {end} of {} bytes", bytes.len());
        }
    }
}

#[test]
fn a_flipped_bit_of_a_pytorch_file_is_an_error_or_has_no_effect() {
    let bytes = plain("pth");
    let expected = bits(&parse(&bytes).unwrap());
    let mut rejected = 0;
    for (at, mask) in flips(bytes.len()) {
        let mut bytes = bytes.clone();
        bytes[at] ^= mask;
        match parse(&bytes) {
            Ok(weights) => assert_eq!(bits(&weights), expected, "byte {at} ^ {mask}"),
            Err(_) => rejected += 1,
        }
    }
    assert!(rejected > 2000, "only {rejected} flipped bits were detected, expected more than 2000");
}

/// The checksum of the zip archive detects changes of the pickle, but an attacker can recompute the checksum.
#[test]
fn a_flipped_bit_of_a_pickle_does_not_panic() {
    let root = dict(&[
        ("state_dict", dict(&[("a", tensor(1, &[3], &[1])), ("b", tensor(0, &[2, 2], &[1, 2]))])),
        ("epoch", int(3)),
        ("shape", [global("torch", "Size"), tuple(&[tuple(&[int(1)])]), b"R".to_vec()].concat()),
    ]);
    assert_eq!(parse(&file(&root)).unwrap().get("b").unwrap().values(), [0.0, 2.0, 1.0, 3.0]);
    for (at, mask) in flips(root.len()) {
        let mut root = root.clone();
        root[at] ^= mask;
        let _ = parse(&file(&root));
    }
    for end in 0..root.len() {
        assert!(parse(&file(&root[..end])).is_err(), "truncated to {end} bytes");
    }
}

#[test]
fn a_flipped_bit_of_a_safetensors_file_does_not_panic() {
    let bytes = plain("safetensors");
    for (at, mask) in flips(bytes.len()) {
        let mut bytes = bytes.clone();
        bytes[at] ^= mask;
        let _ = parse(&bytes);
    }
}

fn flips(len: usize) -> impl Iterator<Item = (usize, u8)> {
    (0..len).flat_map(|at| (0..8).map(move |bit| (at, 1 << bit)).chain([(at, 0xff)]))
}

#[test]
fn tensors_outside_their_storage_are_rejected() {
    let tensors = [
        (tensor(4, &[1], &[1]), "tensor `w` reaches beyond its storage of 4 elements"),
        (tensor(0, &[2, 3], &[3, 1]), "beyond"),
        (tensor(0, &[2], &[i64::MAX]), "beyond"),
        (tensor(i64::MAX, &[2, 2], &[i64::MAX, i64::MAX]), "beyond"),
        (tensor(0, &[1 << 40], &[1]), "more than the file can hold"),
        (tensor(0, &[1 << 40], &[0]), "more than the file can hold"),
        (tensor(0, &[1 << 40, 1 << 40], &[0, 0]), "too large"),
        (tensor(0, &[2], &[-1]), "wrong arguments for RebuildTensor"),
        (tensor(-1, &[2], &[1]), "wrong arguments for RebuildTensor"),
        (tensor(0, &[1; 65], &[1; 65]), "wrong arguments for RebuildTensor"),
        (tensor(0, &[2, 2], &[1]), "2 sizes and 1 strides"),
        (tensor_of(storage("FloatStorage", "0", 5), 0, &[5], &[1]), "`data/0` has 16 bytes"),
        (tensor_of(storage("FloatStorage", "0", 1 << 60), 0, &[5], &[1]), "`data/0` has 16 bytes"),
        (tensor_of(storage("FloatStorage", "../0", 4), 0, &[4], &[1]), "entry `data/../0` cannot be read"),
    ];
    for (tensor, message) in tensors {
        let error = rejection(&file(&dict(&[("w", tensor)])));
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn a_small_file_cannot_request_much_memory() {
    // Each tensor has 2²⁰ elements, the size of the storage. Each of the ten thousand copies takes about twenty bytes.
    let elements = vec![0u8; 1 << 20];
    let tensor = tensor_of(storage("ByteStorage", "0", 1 << 20), 0, &[1 << 20], &[1]);
    let first = [&text("first")[..], &tensor, b"q\x00"].concat();
    let more: Vec<u8> =
        (0..10_000).flat_map(|index| [text(&format!("copy{index}")), b"h\x00".to_vec()].concat()).collect();
    let root = [b"}(".to_vec(), first, more, b"u".to_vec()].concat();
    let error = rejection(&archive(&[("data.pkl", &pickle(&root)), ("data/0", &elements)]));
    assert!(error.contains("tensor `copy") && error.contains("more than the file can hold"), "{error}");
}

#[test]
fn the_number_of_values_is_limited() {
    let error = rejection(&file(&vec![b'N'; 5 << 20]));
    assert!(error.contains("more than 4194304 values"), "{error}");
}

#[test]
fn deep_and_cyclic_pickles_are_read() {
    const DEPTH: usize = 1_000_000;
    let nested = [vec![b']'; DEPTH], vec![b'a'; DEPTH - 1]].concat();
    let weights = parse(&file(&dict(&[("w", tensor(0, &[4], &[1])), ("deep", nested)]))).unwrap();
    assert_eq!(weights.len(), 1);
    // d = {}; d["state_dict"] = d; d["w"] = …
    let cyclic =
        [b"}q\x01(".to_vec(), text("state_dict"), b"h\x01".to_vec(), text("w"), tensor(0, &[4], &[1])];
    let weights = parse(&file(&[cyclic.concat(), b"u".to_vec()].concat())).unwrap();
    assert_eq!(weights.get("w").unwrap().values(), [0.0, 1.0, 2.0, 3.0]);
}

#[test]
fn invalid_pickles_are_rejected_with_the_position() {
    let roots: [(Vec<u8>, &str); 16] = [
        (b"](Na".to_vec(), "an empty stack at byte 5"),
        (b"]}".to_vec(), "an end with unused values at byte 4"),
        (b"}(}".to_vec(), "an end with unused values at byte 5"),
        (vec![b'}', b'i'], "the opcode 0x69 at byte 3, which `torch.save` does not use"),
        (vec![0x80, 4, b'}'], "pickle protocol 4 at byte 2"),
        (b"h\x07".to_vec(), "an unset memo slot at byte 2"),
        (b"q\x07".to_vec(), "an empty stack"),
        (b"}t".to_vec(), "no mark"),
        (b"}(s".to_vec(), "an empty stack"),
        ([b"}(".to_vec(), text("w"), b"u".to_vec()].concat(), "a key without a value"),
        (b"}Na".to_vec(), "not a list where a list is needed"),
        (b"]NNs".to_vec(), "not a dict where a dict is needed"),
        (b"})R".to_vec(), "a call of a value that is not a function"),
        ([global("torch", "Size"), b"NR".to_vec()].concat(), "a call without a tuple"),
        ([global("torch", "FloatStorage"), b")R".to_vec()].concat(), "wrong arguments for Storage(F32)"),
        (b")Q".to_vec(), "an invalid reference to a storage"),
    ];
    for (root, message) in roots {
        let error = rejection(&file(&root));
        assert!(error.contains(message), "{error}");
    }
    assert!(
        rejection(&archive(&[("data.pkl", b"X\xff\xff\xff\xffabc")])).contains("an unexpected end at byte 0")
    );
    assert!(rejection(&archive(&[("data.pkl", b"cos")])).contains("an unexpected end"));
}

#[test]
fn unsupported_python_names_are_rejected_with_a_reason() {
    let names = [
        ("os", "system", "may run a program"),
        ("builtins", "eval", "may run a program"),
        ("torch", "load", "save `model.state_dict()`"),
        ("torchvision.models.resnet", "ResNet", "save `model.state_dict()`"),
        ("__torch__.net", "Net", "torch.jit.load"),
        ("torch", "ComplexFloatStorage", "convert them to dense"),
        ("numpy.core.multiarray", "scalar", "save the state dict alone"),
    ];
    for (module, name, reason) in names {
        let error =
            parse(&file(&dict(&[("w", tensor(0, &[4], &[1])), ("x", global(module, name))]))).unwrap_err();
        assert!(
            matches!(&error, WeightsError::Global { global, .. } if *global == format!("{module}.{name}")),
            "{error}"
        );
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn files_without_tensors_are_rejected_with_their_keys() {
    let error = rejection(&file(&dict(&[("epoch", int(1)), ("net", dict(&[("w", tensor(0, &[4], &[1]))]))])));
    assert!(error.contains("its keys: `epoch`, `net`"), "{error}");
    assert!(rejection(&file(b"}")).contains("its keys: none"));
    assert!(rejection(&file(&tensor(0, &[4], &[1]))).contains("a single tensor without a name"));
    assert!(rejection(&file(b"]")).contains("it does not hold a dict of tensors"));
    assert!(rejection(&file(&dict(&[("", tensor(0, &[4], &[1]))]))).contains("cannot be named"));
}

#[test]
fn the_last_of_equal_keys_is_used() {
    let one = |at| dict(&[("w", tensor(0, &[1], &[1])), ("w", tensor(at, &[1], &[1]))]);
    let weights = parse(&file(&dict(&[("state_dict", one(1)), ("state_dict", one(2))]))).unwrap();
    assert_eq!(weights.get("w").unwrap().values(), [2.0]);
}

#[test]
fn zip_archives_not_written_by_pytorch_are_rejected() {
    let root = pickle(&dict(&[("w", tensor(0, &[4], &[1]))]));
    assert!(rejection(&archive(&[("other.txt", b"hello")])).contains("not written by `torch.save`"));
    assert!(rejection(&archive(&[("data.pkl", &root)])).contains("entry `data/0` cannot be read"));
    assert!(rejection(&archive(&[("data.pkl", &root), ("byteorder", b"big")])).contains("big-endian"));

    // Compression method 8 (deflate) in every header: at offset 8 in local headers, at 10 in the central directory.
    let compressed = patched(file(&dict(&[])), |header| match &header[..4] {
        b"PK\x03\x04" => header[8] = 8,
        b"PK\x01\x02" => header[10] = 8,
        _ => {}
    });
    assert!(rejection(&compressed).contains("is compressed or encrypted"));

    // A size of 1 GB: the compressed size is at offset 20, the uncompressed size at 24.
    let claimed = patched(file(&dict(&[("w", tensor(0, &[4], &[1]))])), |header| {
        if &header[..4] == b"PK\x01\x02" {
            header[20..28].copy_from_slice(&[0, 0, 0, 0x40, 0, 0, 0, 0x40]);
        }
    });
    assert!(rejection(&claimed).contains("it is truncated, or they overlap"));
    let inflating = patched(file(&dict(&[("w", tensor(0, &[4], &[1]))])), |header| {
        if &header[..4] == b"PK\x01\x02" {
            header[24..28].copy_from_slice(&[0, 0, 0, 0x40]);
        }
    });
    assert!(rejection(&inflating).contains("the two sizes of a stored entry differ"));
}

/// Applies `change` to every header of a zip archive.
fn patched(mut bytes: Vec<u8>, change: impl Fn(&mut [u8])) -> Vec<u8> {
    for at in 0..bytes.len().saturating_sub(30) {
        if bytes[at..].starts_with(b"PK\x03\x04") || bytes[at..].starts_with(b"PK\x01\x02") {
            change(&mut bytes[at..]);
        }
    }
    bytes
}

#[test]
fn other_file_formats_are_rejected() {
    for bytes in [
        &b""[..],
        b"hello, this is not a weights file",
        b"so this {json}",
        b"\x89HDF\r\n\x1a\n",
        b"{\"a\": 1}",
    ] {
        assert!(matches!(parse(bytes), Err(WeightsError::Format { .. })), "{bytes:?}");
    }
    let json = b"{\"w\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}";
    let truncated = [&(json.len() as u64).to_le_bytes()[..], json, &[0; 8]].concat();
    assert!(matches!(parse(&truncated), Err(WeightsError::Damaged { .. })));
    let json = b"{\"w\":{\"dtype\":\"C64\",\"shape\":[1],\"data_offsets\":[0,8]}}";
    let complex = [&(json.len() as u64).to_le_bytes()[..], json, &[0; 8]].concat();
    assert!(rejection(&complex).contains("tensor `w` is C64"));
}
