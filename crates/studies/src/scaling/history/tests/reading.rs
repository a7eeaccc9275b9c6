//! Tests of reading tables: invalid entries are left out and listed with their line, and no input causes a panic.

use super::*;

const HEADER: &str = "Model,Publication date,Parameters,Training compute (FLOP)";

/// Returns the left-out entries of rows: line, name, part and reason.
fn left_out(rows: &str) -> Vec<(u64, String, LeftOutPart, String)> {
    let table = parse(format!("{HEADER}\n{rows}").as_bytes(), "t.csv").unwrap();
    table.left_out.into_iter().map(|out| (out.line, out.name, out.part, out.reason)).collect()
}

fn names(text: &[u8]) -> Vec<String> {
    parse(text, "t.csv").unwrap().systems.into_iter().map(|system| system.name).collect()
}

#[test]
fn invalid_rows_are_left_out_with_their_line_and_reason() {
    let rows = "good,2012-01-02,10,1e3\n\
        \"two\nlines\",2012-01-03,10,\n\
        undated,,10,1e3\n\
        twice,\"2012-01-02, 2013-01-02\",10,1e3\n\
        february,2012-02-30,10,1e3\n\
        year,2012,10,1e3\n\
        month,2012-05,10,1e3\n\
        words,2012-01-02,many,1e3\n\
        both,2012-01-02,,about a lot\n\
        short,2012-01-02,10\n\
        long,2012-01-02,10,1e3,5\n\
        good,2012-01-02,10,1e3\n\
        ,2012-01-02,10,1e3\n";
    let found = left_out(rows);
    let expected = [
        (3, "two\nlines", LeftOutPart::Compute, "training compute: none given"),
        (5, "undated", LeftOutPart::System, "the date is missing"),
        (
            6,
            "twice",
            LeftOutPart::System,
            "\"2012-01-02, 2013-01-02\" contains more than one date; expected one",
        ),
        (7, "february", LeftOutPart::System, "2012-02-30 is not a valid date"),
        (8, "year", LeftOutPart::System, "2012 is only a year; expected a date such as 2012-09-30"),
        (
            9,
            "month",
            LeftOutPart::System,
            "2012-05 is only a year and a month; expected a date such as 2012-09-30",
        ),
        (10, "words", LeftOutPart::Parameters, "parameters: \"many\" is not a number"),
        (
            11,
            "both",
            LeftOutPart::System,
            "training compute: \"about a lot\" is not a number; parameters: none given",
        ),
        (12, "short", LeftOutPart::System, "the record has 3 fields, but the header has 4"),
        (13, "long", LeftOutPart::System, "the record has 5 fields, but the header has 4"),
        (14, "good", LeftOutPart::System, "the name is already used on line 2"),
        (15, "", LeftOutPart::System, "the name is missing"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, (line, name, part, reason)) in found.iter().zip(expected) {
        assert_eq!((found.0, found.1.as_str(), found.2, found.3.as_str()), (line, name, part, reason));
    }
    let table = parse(format!("{HEADER}\n{rows}").as_bytes(), "t.csv").unwrap();
    let used: Vec<(usize, u64, &str)> =
        table.systems.iter().map(|s| (s.id, s.line, s.name.as_str())).collect();
    assert_eq!(used, [(0, 2, "good"), (1, 3, "two\nlines"), (2, 10, "words")]);
    assert_eq!((table.systems[1].flops, table.systems[2].parameters), (None, None));
}

#[test]
fn numbers_must_be_plain_and_positive() {
    let reason = |text: &str| {
        let found = left_out(&format!("m,2012-01-02,10,\"{text}\"\n"));
        found.into_iter().next().map(|(.., reason)| reason.replacen("training compute: ", "", 1))
    };
    for text in ["1e3", " 5 ", "0.5", "2.5E+10", "1e-3"] {
        assert_eq!(reason(text), None, "{text}");
    }
    let cases = [
        ("", "none given"),
        ("0", "0 is not positive"),
        ("-3", "-3 is not positive"),
        ("NaN", "NaN is not finite"),
        ("inf", "inf is not finite"),
        ("1e999", "1e999 is not finite"),
        ("1,000,000", "\"1,000,000\" contains thousands separators"),
        ("1 000", "\"1 000\" contains thousands separators"),
        ("1e20-2e20", "\"1e20-2e20\" is a range"),
        ("1e-20-2e-20", "\"1e-20-2e-20\" is a range"),
        ("1e20 – 2e20", "\"1e20 – 2e20\" is a range"),
        ("3 to 5", "\"3 to 5\" is a range"),
        ("1e20 FLOP", "\"1e20 FLOP\" is not a number"),
        ("~1e20", "\"~1e20\" is not a number"),
        ("0x10", "\"0x10\" is not a number"),
    ];
    for (text, expected) in cases {
        assert_eq!(reason(text).as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn missing_column_error_lists_the_most_similar_and_all_columns() {
    let error = parse(b"Model,publication dates,Parameters,FLOP\n", "t.csv").unwrap_err();
    let expected = "t.csv has no column \"Publication date\" (the most similar column is \"publication dates\"); its 4 \
        columns are Model, publication dates, Parameters, FLOP";
    assert_eq!(error.to_string(), expected);
    let error = parse(b"x,y\n1,2\n", "t.csv").unwrap_err().to_string();
    assert_eq!(error, "t.csv has no column \"Model\"; its 2 columns are x, y");
    let twice = format!("{HEADER},Model\n");
    let error = parse(twice.as_bytes(), "t.csv").unwrap_err().to_string();
    assert_eq!(error, "t.csv has the column \"Model\" more than once");
    let twice = format!("{HEADER},Parameters\n");
    let error = parse(twice.as_bytes(), "t.csv").unwrap_err().to_string();
    assert_eq!(error, "t.csv has the column \"Parameters\" more than once");
}

#[test]
fn other_separators_are_named_in_the_error() {
    let quoted = HEADER.split(',').map(|name| format!("{name:?}")).collect::<Vec<_>>().join(";");
    for (header, hint) in [
        (HEADER.replace(',', ";"), "separated by `;`"),
        (quoted, "separated by `;`"),
        (HEADER.replace(',', "\t"), "separated by tabs"),
        (HEADER.replace(',', "|"), "separated by `|`"),
    ] {
        // The decimal comma splits the row into two fields.
        let text = format!("{header};\"Cost, USD\"\na;2012-01-02;10;1e3;2,5\n");
        let error = parse(text.as_bytes(), "t.csv").unwrap_err().to_string();
        assert!(error.starts_with("t.csv has no column \"Model\"") && error.contains(hint), "{error}");
    }
    let error = parse(b"a;b,c\n", "t.csv").unwrap_err().to_string();
    assert!(!error.contains("separated"), "{error}");
}

#[test]
fn quoted_text_in_messages_is_truncated() {
    let long = "x".repeat(5000);
    let names: Vec<String> = (0..400).map(|index| format!("c{index}")).collect();
    for header in [long.clone(), names.join(","), format!("\u{fffd}{long},b"), format!("Modell{long}")] {
        let error = parse(header.as_bytes(), "t.csv").unwrap_err().to_string();
        assert!(error.contains('…') && error.len() < 300, "{error}");
    }
    let mut binary = vec![0xff; 3000];
    binary.push(b'\n');
    let error = parse(&binary, "t.csv").unwrap_err().to_string();
    assert!(error.contains("not UTF-8") && error.len() < 160, "{error}");
    for row in [
        format!("a,{long},1,1"),
        format!("a,2012-01-02,{long},1"),
        format!("a,2012-01-02,1,1-{}", "1".repeat(900)),
        format!("a,2012-01-02,1,-{}", "1".repeat(900)),
    ] {
        for (.., reason) in left_out(&format!("{row}\n")) {
            assert!(reason.contains('…') && reason.len() < 160, "{reason}");
        }
    }
}

#[test]
fn implausible_dates_are_left_out() {
    let found = left_out(
        "a,9999-12-31,10,1e3\nb,1899-12-31,10,1e3\nc,2101-01-01,10,1e3\nd,1900-01-01,10,1e3\ne,2100-12-31,10,1e3\n",
    );
    let reasons: Vec<(u64, LeftOutPart, &str)> =
        found.iter().map(|out| (out.0, out.2, out.3.as_str())).collect();
    let expected = [
        (2, LeftOutPart::System, "9999-12-31 is outside the years 1900 to 2100"),
        (3, LeftOutPart::System, "1899-12-31 is outside the years 1900 to 2100"),
        (4, LeftOutPart::System, "2101-01-01 is outside the years 1900 to 2100"),
    ];
    assert_eq!(reasons, expected);
}

#[test]
fn parameters_are_optional() {
    let rows = "a,1990-01-02,1e3\nb,1995-01-02,\nc,2000-01-02,1e4\nd,2005-01-02,1e5\n";
    let text = format!("Model,Publication date,Training compute (FLOP)\n{rows}");
    let table = parse(text.as_bytes(), "t.csv").unwrap();
    let used: Vec<(&str, Option<f64>)> =
        table.systems.iter().map(|system| (system.name.as_str(), system.parameters)).collect();
    assert_eq!(used, [("a", None), ("c", None), ("d", None)]);
    // A missing column is not reported for each row.
    let [out] = &table.left_out[..] else { panic!("{:?}", table.left_out) };
    assert_eq!(
        (out.line, out.part, out.reason.as_str()),
        (3, LeftOutPart::System, "training compute: none given")
    );
    let history = History::new(&table, MIN_RESAMPLES, SEED).unwrap();
    assert!(
        history.sentences().contains(&"No system of t.csv has parameters.".into()),
        "{:?}",
        history.sentences()
    );
}

#[test]
fn empty_and_malformed_files_are_errors() {
    for text in [&b""[..], b"\xef\xbb\xbf", b"\r\n \n"] {
        assert_eq!(parse(text, "t.csv").unwrap_err().to_string(), "t.csv is empty");
    }
    let open = format!("{HEADER}\na,2012-01-02,1,1\n\"b,2012-01-02,1,1\nc,2012-01-02,1,1\n");
    let error = parse(open.as_bytes(), "t.csv").unwrap_err().to_string();
    assert_eq!(error, "t.csv, line 3: the quoted field that begins on this line is not closed");
    let error = parse(b"Model,\xff\n", "t.csv").unwrap_err().to_string();
    assert_eq!(error, "the header of t.csv is not UTF-8: \\xff");
    // A quote within an unquoted field is text; a doubled quote within a quoted field is one quote.
    let quoted = format!("{HEADER}\na\"b,2012-01-02,1,1\n\"c\"\"d\",2012-01-02,1,1\n");
    assert_eq!(names(quoted.as_bytes()), ["a\"b", "c\"d"]);
}

#[test]
fn rows_with_invalid_utf8_are_left_out() {
    let mut text = format!("{HEADER}\na,2012-01-02,1,1\nb").into_bytes();
    text.extend(b"\xff\xc3,2012-01-02,1,1\nc,2012-01-02,1,1\n");
    let table = parse(&text, "t.csv").unwrap();
    assert_eq!(table.systems.len(), 2);
    let out = &table.left_out[0];
    assert_eq!((out.line, out.part, out.reason.as_str()), (3, LeftOutPart::System, "not UTF-8: b\\xff\\xc3"));
}

#[test]
fn byte_order_marks_line_ends_and_blank_lines_are_accepted() {
    let rows = "a,2012-01-02,1,1\n\n\"b\nb\",2012-01-02,1,1\nc,2012,1,1\n";
    for text in [format!("{HEADER}\n{rows}"), format!("\u{feff}{HEADER}\n{rows}")] {
        for text in [text.clone(), text.replace('\n', "\r\n"), text.replace('\n', "\r")] {
            let table = parse(text.as_bytes(), "t.csv").unwrap();
            let lines: Vec<u64> = table.systems.iter().map(|system| system.line).collect();
            assert_eq!(lines, [2, 4], "{text:?}");
            assert_eq!(table.left_out[0].line, 6, "{text:?}");
        }
    }
}

#[test]
fn other_estimates_are_read_and_invalid_ones_listed() {
    let text =
        format!("{HEADER},Other estimates\nm,2012-01-02,1,4,\"8e0 (A, 2018: twice); half; 2 (B); x (C)\"\n");
    let table = parse(text.as_bytes(), "t.csv").unwrap();
    let others = &table.systems[0].others;
    assert_eq!(others.len(), 2);
    assert_eq!((others[0].flops, others[0].source.as_str()), (8.0, "A, 2018: twice"));
    let reasons: Vec<(LeftOutPart, &str)> =
        table.left_out.iter().map(|out| (out.part, out.reason.as_str())).collect();
    let (half, x) =
        ("other estimate: \"half\" has no source in parentheses", "other estimate: \"x\" is not a number");
    assert_eq!(reasons, [(LeftOutPart::Estimate, half), (LeftOutPart::Estimate, x)]);
    let estimates = &History::new(&table, MIN_RESAMPLES, 1).unwrap().other_estimates;
    assert_eq!([estimates[0].ratio, estimates[1].ratio], [2.0, 0.5]);
}

/// Every prefix of a small file, and the file with every byte replaced or inserted, gives an error or a table of valid
/// systems.
#[test]
fn arbitrary_bytes_do_not_panic() {
    let mut text = format!("\u{feff}{HEADER},Other estimates\r\n").into_bytes();
    text.extend(
        "\"a \"\"b\"\"\",2012-01-02,1e3,2e4,3e4 (x); y\r\nü,2013-02,,5,\n\n\"c\nd\",2014-12-31,1,,\n".bytes(),
    );
    let check = |text: &[u8]| {
        if let Ok(table) = parse(text, "t.csv") {
            let good = |value: Option<f64>| value.is_none_or(|value| value.is_finite() && value > 0.0);
            assert!(table.systems.iter().all(|system| good(system.flops) && good(system.parameters)));
            assert!(table.systems.iter().enumerate().all(|(id, system)| system.id == id));
            let last = 1 + text.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() as u64;
            assert!(table.left_out.iter().all(|out| (1..=last).contains(&out.line)), "{:?}", table.left_out);
        }
    };
    for end in 0..=text.len() {
        check(&text[..end]);
    }
    for at in 0..text.len() {
        for byte in [0, b'"', b',', b'\n', b'\r', b'-', b'9', b' ', 0x80, 0xff] {
            let mut changed = text.clone();
            changed[at] = byte;
            check(&changed);
            changed.insert(at, byte);
            check(&changed);
        }
    }
    // Random sequences of characters that occur in tables.
    let mut random = wgrad_stdx::random::SplitMix64(5);
    let kinds = b"\",\n\r-e19. \xff;()M";
    for _ in 0..2000 {
        let mut bytes = format!("{HEADER}\n").into_bytes();
        bytes.extend((0..random.below(60)).map(|_| kinds[random.below(kinds.len())]).collect::<Vec<u8>>());
        check(&bytes);
    }
}
