//! Schemas: bytes fixed by hand, limits, growth, round trips.

use super::*;
use crate::given;
use proptest::prelude::*;

#[test]
fn a_schema_has_the_documented_bytes_and_name() {
    let labels = [("cpu", "0"), ("a", "ü")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let cpu = Series::new("x", labels, "s", Kind::Counter, -2).unwrap();
    let load = Series::new("node_load1", [], "", Kind::Gauge, 0).unwrap();
    let delta = SchemaDelta {
        parent: None,
        appended: vec![cpu, load],
    };
    let expected = [
        &[1, 0, 2][..], // version, no parent, two series
        b"\x01x\x02\x01a\x02\xc3\xbc\x03cpu\x010\x01s\x00\xfe", // counter with two labels, exponent -2
        b"\x0anode_load1\x00\x00\x01\x00",                      // gauge without labels
    ];
    assert_eq!(delta.encode(), expected.concat());
    let hash = *blake3::hash(&[b"outlast/schema/1\0", &delta.encode()[..]].concat()).as_bytes();
    assert_eq!(delta.hash(), SchemaHash(hash));
    let grown = SchemaDelta {
        parent: Some(SchemaHash([9; 32])),
        appended: delta.appended[1..].into(),
    };
    let expected = [
        &[1, 1][..],
        &[9; 32],
        &[1],
        b"\x0anode_load1\x00\x00\x01\x00",
    ];
    assert_eq!(grown.encode(), expected.concat());
}

#[test]
fn integers_stand_for_the_nearest_decimal() {
    let value = |exponent, integer| {
        Series::new("x", [], "", Kind::Gauge, exponent)
            .unwrap()
            .value(integer)
    };
    assert_eq!(value(-2, 110), 1.1);
    assert_eq!(value(-3, -1), -0.001);
    assert_eq!(value(0, 42), 42.0);
    assert_eq!(value(3, 5), 5_000.0);
}

#[test]
fn a_series_is_printed_as_prometheus_does() {
    let labels = [("b", r#"a"\"#), ("a", "1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let series = Series::new("x", labels, "", Kind::Gauge, 0).unwrap();
    assert_eq!(series.to_string(), r#"x{a="1",b="a\"\\"}"#);
    assert_eq!(series.label("a"), Some("1"));
    assert_eq!(
        Series::new("x", [], "", Kind::Gauge, 0)
            .unwrap()
            .to_string(),
        "x"
    );
}

#[test]
fn names_labels_and_sizes_outside_the_limits_are_refused() {
    let long = "x".repeat(MAX_NAME + 1);
    let value = "x".repeat(MAX_LABEL_VALUE + 1);
    for (name, labels, unit, exponent) in [
        ("", &[][..], "", 0),
        ("1x", &[], "", 0),
        ("x y", &[], "", 0),
        (&*long, &[], "", 0),
        ("x", &[("", "")], "", 0),
        ("x", &[("a:b", "")], "", 0),
        ("x", &[("a", ""), ("a", "1")], "", 0),
        ("x", &[("a", &*value)], "", 0),
        ("x", &[(&*long, "")], "", 0),
        ("x", &[], &*long, 0),
        ("x", &[], "", 19),
        ("x", &[], "", -19),
    ] {
        let labels = labels.iter().map(|&(k, v)| (k.to_owned(), v.to_owned()));
        assert!(
            Series::new(name, labels, unit, Kind::Gauge, exponent).is_err(),
            "{name} {unit} {exponent}"
        );
    }
    let labels = (0..=MAX_LABELS).map(|i| (format!("l{i}"), String::new()));
    assert!(Series::new("x", labels, "", Kind::Gauge, 0).is_err());
}

#[test]
fn a_schema_grows_only_from_its_parent_and_names_each_series_once() {
    let gauge = |name: &str| Series::new(name, [], "", Kind::Gauge, 0).unwrap();
    let first = SchemaDelta {
        parent: None,
        appended: vec![gauge("a")],
    };
    let root = Schema::extend(None, &first).unwrap();
    let second = SchemaDelta {
        parent: Some(root.hash),
        appended: vec![gauge("b")],
    };
    let grown = Schema::extend(Some(&root), &second).unwrap();
    assert_eq!(grown.series, [gauge("a"), gauge("b")]);
    assert_eq!(grown.hash, second.hash());
    assert!(Schema::extend(None, &second).is_err());
    assert!(Schema::extend(Some(&grown), &second).is_err());
    assert!(Schema::extend(Some(&root), &first).is_err());
    let again = SchemaDelta {
        parent: Some(root.hash),
        appended: vec![gauge("a")],
    };
    assert!(Schema::extend(Some(&root), &again).is_err());
    let nothing = SchemaDelta {
        parent: None,
        appended: Vec::new(),
    };
    assert!(Schema::extend(None, &nothing).is_err());
}

#[test]
fn a_schema_over_the_limits_is_refused() {
    let gauges = |from: usize, to: usize, width: usize| -> Vec<Series> {
        let label = ("l".to_owned(), "v".repeat(width));
        (from..to)
            .map(|i| Series::new(format!("x{i}"), [label.clone()], "", Kind::Gauge, 0).unwrap())
            .collect()
    };
    let full = SchemaDelta {
        parent: None,
        appended: gauges(0, MAX_SERIES, 10),
    };
    let schema = Schema::extend(None, &full).unwrap();
    let more = SchemaDelta {
        parent: Some(schema.hash),
        appended: gauges(MAX_SERIES, MAX_SERIES + 1, 10),
    };
    let limit = |what, len, limit| FormatError::Limit { what, len, limit };
    assert_eq!(
        Schema::extend(Some(&schema), &more),
        Err(limit("series of a schema", MAX_SERIES + 1, MAX_SERIES))
    );
    let wide = SchemaDelta {
        parent: None,
        appended: gauges(0, 1_000, MAX_LABEL_VALUE),
    };
    assert!(matches!(
        Schema::extend(None, &wide),
        Err(FormatError::Limit {
            what: "bytes of a schema",
            ..
        })
    ));
    let half = Schema::extend(
        None,
        &SchemaDelta {
            parent: None,
            appended: gauges(0, 900, MAX_LABEL_VALUE),
        },
    )
    .unwrap();
    let rest = SchemaDelta {
        parent: Some(half.hash),
        appended: gauges(900, 1_200, MAX_LABEL_VALUE),
    };
    assert!(matches!(
        Schema::extend(Some(&half), &rest),
        Err(FormatError::Limit {
            what: "bytes of a schema",
            ..
        })
    ));
}

proptest! {
    #[test]
    fn every_delta_comes_back(delta in given::schema_delta()) {
        prop_assert_eq!(SchemaDelta::decode(&delta.encode()), Ok(delta));
    }

    #[test]
    fn a_flipped_bit_or_a_cut_never_keeps_the_name(delta in given::schema_delta(), bit: usize) {
        let mut bytes = delta.encode();
        prop_assert!(SchemaDelta::decode(&bytes[..bit % bytes.len()]).is_err());
        given::flip(&mut bytes, bit);
        if let Ok(other) = SchemaDelta::decode(&bytes) {
            prop_assert_ne!(other.hash(), delta.hash());
            prop_assert_eq!(other.encode(), bytes);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut versioned = vec![1, 0];
        versioned.extend(&bytes);
        let _ = (SchemaDelta::decode(&bytes), SchemaDelta::decode(&versioned));
    }
}
