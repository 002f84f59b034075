//! The scanner against serde_json, in every chunking.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{Limits, Violation};

fn scan_text(text: &str) -> Result<Message, Violation> {
    scan(text.as_bytes(), &Limits::default())
}

/// Scans in pieces whose lengths are taken from `cuts` in turn.
fn scan_in(text: &[u8], cuts: &[usize]) -> (Result<Message, Violation>, Vec<u8>) {
    let limits = Limits::default();
    let mut scanner = Scanner::new();
    let mut rest = text;
    let mut sizes = cuts.iter().copied().cycle();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(1).clamp(1, rest.len());
        if let Err(violation) = scanner.feed(&rest[..size], &limits) {
            return (Err(violation), Vec::new());
        }
        rest = &rest[size..];
    }
    let message = scanner.finish();
    (message, scanner.text().to_vec())
}

/// What the message is by serde_json's reading, or `None` if it is no JSON-RPC message.
fn oracle(value: &Value) -> Option<(Option<Id>, Kind, ResultType)> {
    let object = value.as_object()?;
    let id = object.get("id").map(|id| match id {
        Value::Number(number) => number.as_u64().map_or(Id::Other, Id::Number),
        Value::String(_) => Id::Text,
        Value::Null => Id::Null,
        _ => Id::Other,
    });
    if object.get("jsonrpc")?.as_str()? != "2.0" {
        return None;
    }
    let error = object.get("error").filter(|error| !error.is_null());
    let mut result_type = ResultType::Absent;
    let kind = match (object.get("method"), object.get("result"), error) {
        (Some(method), None, None) => {
            let name = method.as_str()?;
            let index = Method::NAMES.iter().position(|known| *known == name);
            let method = Method::from_index(index.map(|index| index as u8));
            match id {
                None => Kind::Notification(method),
                Some(Id::Null) => return None,
                Some(_) => Kind::Request(method),
            }
        }
        (None, Some(result), None) => {
            result_type = match result.get("resultType") {
                None => ResultType::Absent,
                Some(kind) if kind == "complete" => ResultType::Complete,
                Some(kind) if kind == "input_required" => ResultType::InputRequired,
                Some(_) => ResultType::Other,
            };
            let failed = result.get("isError") == Some(&Value::Bool(true));
            if failed { Kind::ToolError } else { Kind::Result }
        }
        (None, None, Some(error)) => {
            let code = error.as_object()?.get("code").map_or(0, |code| match code {
                Value::Number(number) if number.is_u64() || number.is_i64() => {
                    let wide = number.as_i64().unwrap_or(i64::MAX);
                    wide.clamp(i32::MIN.into(), i32::MAX.into()) as i32
                }
                _ => 0,
            });
            Kind::Error(code)
        }
        _ => return None,
    };
    Some((id, kind, result_type))
}

#[test]
fn reads_the_answers_of_real_servers() {
    let limits = Limits::default();
    // id first (Python SDK), id last (TypeScript), an id inside the result as well.
    for text in [
        r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text"}],"isError":false}}"#,
        r#"{"result":{"id":9,"structuredContent":{"id":1,"isError":true}},"jsonrpc":"2.0","id":7}"#,
        "\n { \"id\" : 7 , \"jsonrpc\" : \"2.0\" , \"result\" : { } }\r\n",
        r#"{"\u0069d":7,"jsonrpc":"2.0","result":{"error":{"code":1}},"error":null}"#,
    ] {
        let message = scan(text.as_bytes(), &limits).unwrap();
        assert_eq!((message.id, message.kind), (Some(Id::Number(7)), Kind::Result), "{text}");
        assert_eq!(message.len_bytes as usize, text.len());
    }
    let failed = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[],"isError":true}}"#;
    assert_eq!(scan_text(failed).unwrap().kind, Kind::ToolError);
    let error = r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Bad"}}"#;
    let message = scan_text(error).unwrap();
    assert_eq!((message.id, message.kind), (Some(Id::Text), Kind::Error(-32600)));
    let big =
        r#"{"jsonrpc":"2.0","id":null,"error":{"data":{"code":3},"code":-99999999999999999999}}"#;
    let message = scan_text(big).unwrap();
    assert_eq!((message.id, message.kind), (Some(Id::Null), Kind::Error(i32::MIN)));
}

#[test]
fn tells_requests_and_notifications_by_their_method() {
    for (index, name) in Method::NAMES.iter().enumerate() {
        let method = Method::from_index(Some(index as u8));
        assert_eq!(method.name(), *name);
        let note = json!({"jsonrpc": "2.0", "method": name, "params": {"id": 3}}).to_string();
        let message = scan_text(&note).unwrap();
        assert_eq!((message.id, message.kind), (None, Kind::Notification(method)));
    }
    let ask = r#"{"method":"ping","jsonrpc":"2.0","id":0}"#;
    let message = scan_text(ask).unwrap();
    assert_eq!((message.id, message.kind), (Some(Id::Number(0)), Kind::Request(Method::Ping)));
    let odd = r#"{"method":"notifications/progres","jsonrpc":"2.0"}"#;
    assert_eq!(scan_text(odd).unwrap().kind, Kind::Notification(Method::Other));
}

#[test]
fn keeps_the_version_and_the_raw_token_of_a_text_id() {
    let text = |message: &str| scan_in(message.as_bytes(), &[3]).1;
    let version = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25",
        "capabilities":{"protocolVersion":"no"}}}"#;
    assert_eq!(text(version), b"2025-11-25");
    assert!(scan_text(version).unwrap().has_version);
    let id = r#"{"jsonrpc":"2.0","id":"8f14e45f-ceea-467f-a2d3-8c5b1f0c4f11","method":"ping"}"#;
    assert_eq!(text(id), br#""8f14e45f-ceea-467f-a2d3-8c5b1f0c4f11""#);
    let escaped = r#"{"jsonrpc":"2.0","id":"a\"\u00e9é","method":"ping"}"#;
    assert_eq!(text(escaped), r#""a\"\u00e9é""#.as_bytes());
    let long = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#, "x".repeat(600));
    assert_eq!(text(&long), b"");
    assert_eq!(scan_text(&long).unwrap().id, Some(Id::Text));
}

#[test]
fn names_what_is_wrong() {
    use Violation::*;
    for (text, violation) in [
        ("", TruncatedJson),
        ("  ", TruncatedJson),
        ("[]", Batch),
        (r#" [{"jsonrpc":"2.0","id":1,"result":{}}]"#, Batch),
        ("17", NotJsonRpc),
        ("\"hello\"", NotJsonRpc),
        ("<html>", MalformedJson),
        ("{}", NotJsonRpc),
        (r#"{"jsonrpc":"1.0","id":1,"result":{}}"#, NotJsonRpc),
        (r#"{"jsonrpc":"2.0","id":1}"#, NotJsonRpc),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, NotJsonRpc),
        (r#"{"jsonrpc":"2.0","id":1,"error":"no object"}"#, NotJsonRpc),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, NotJsonRpc),
        (r#"{"jsonrpc":"2.0","method":17}"#, NotJsonRpc),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}"#, TruncatedJson),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}} x"#, TrailingJson),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}{}"#, TrailingJson),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},}"#, MalformedJson),
        (r#"{"jsonrpc":"2.0","id":01,"result":{}}"#, MalformedJson),
        ("{\"jsonrpc\":\"2\u{1}\"}", MalformedJson),
    ] {
        assert_eq!(scan_text(text), Err(violation), "{text}");
        assert_eq!(scan_in(text.as_bytes(), &[1]).0, Err(violation), "{text}");
    }
}

#[test]
fn bounds_depth_and_length() {
    let limits = Limits { message_bytes: 1000, ..Limits::default() };
    let nested = |depth: usize| {
        let inner = "[".repeat(depth - 1) + &"]".repeat(depth - 1);
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":{inner}}}"#)
    };
    assert!(scan(nested(64).as_bytes(), &limits).is_ok());
    assert_eq!(scan(nested(65).as_bytes(), &limits), Err(Violation::JsonTooDeep));
    let shallow = Limits { depth: 3, ..limits };
    assert!(scan(nested(3).as_bytes(), &shallow).is_ok());
    assert_eq!(scan(nested(4).as_bytes(), &shallow), Err(Violation::JsonTooDeep));
    let message = format!(r#"{{"jsonrpc":"2.0","id":1,"result":"{}"}}"#, "x".repeat(2000));
    let mut scanner = Scanner::new();
    assert_eq!(scanner.feed(&message.as_bytes()[..1000], &limits), Ok(()));
    assert_eq!(scanner.feed(&message.as_bytes()[1000..1001], &limits), {
        Err(Violation::MessageTooLong)
    });
    // After a reset nothing of the old message shows.
    scanner.reset();
    assert!(scanner.is_blank());
    scanner.feed(br#"{"jsonrpc":"2.0","id":2,"result":{}}"#, &limits).unwrap();
    assert_eq!(scanner.finish().unwrap().id, Some(Id::Number(2)));
}

#[test]
fn the_state_stays_small() {
    assert!(size_of::<Scanner>() <= 104, "{}", size_of::<Scanner>());
}

fn leaf() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "2.0",
        "1.0",
        "ping",
        "complete",
        "input_required",
        "notifications/progress",
        "é\"\\\n",
        "日本語 \u{1f600}",
        "2025-11-25",
    ]);
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-40000i64..3).prop_map(Value::from),
        (-1e9f64..1e9).prop_map(Value::from),
        words.prop_map(Value::from),
        ".{0,24}".prop_map(Value::from),
    ]
}

fn key() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "jsonrpc",
        "id",
        "method",
        "result",
        "error",
        "params",
        "code",
        "isError",
        "resultType",
        "protocolVersion",
        "i",
        "ids",
        "",
    ]);
    prop_oneof![6 => known.prop_map(String::from), 1 => ".{0,6}"]
}

fn tree() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            3 => prop::collection::hash_map(key(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Objects that mostly are JSON-RPC messages.
fn message() -> impl Strategy<Value = Value> {
    let member = |value| prop::option::weighted(0.5, value);
    let object = (
        prop::option::weighted(0.9, prop_oneof![9 => Just(json!("2.0")), 1 => leaf()]),
        member(leaf().boxed()),
        prop::option::weighted(0.3, leaf()),
        member(tree().boxed()),
        prop::option::weighted(0.3, tree()),
        member(tree().boxed()),
    );
    object.prop_map(|(jsonrpc, id, method, result, error, params)| {
        let names = ["jsonrpc", "id", "method", "result", "error", "params"];
        let values = [jsonrpc, id, method, result, error, params];
        let members = names.into_iter().zip(values);
        let members = members.filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(members.collect())
    })
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1]), Just(vec![usize::MAX]), prop::collection::vec(1usize..30, 1..9)]
}

proptest! {
    #[test]
    fn agrees_with_serde_json_on_messages(
        value in prop_oneof![4 => message(), 1 => tree()],
        pretty in any::<bool>(),
        cuts in cuts(),
    ) {
        let text = if pretty { format!("{value:#}") } else { value.to_string() };
        // serde_json reads a number too large for 64 bits as a float; so must the oracle.
        let value: Value = serde_json::from_str(&text).unwrap();
        let (found, _) = scan_in(text.as_bytes(), &cuts);
        match oracle(&value) {
            Some((id, kind, result_type)) => {
                let found = found.unwrap();
                prop_assert_eq!((found.id, found.kind), (id, kind), "{}", text);
                prop_assert_eq!(found.result_type, result_type);
                let version = value.get("result").and_then(|r| r.get("protocolVersion"));
                prop_assert_eq!(found.has_version, version.is_some_and(Value::is_string));
            }
            None if value.is_array() => prop_assert_eq!(found, Err(Violation::Batch)),
            None => prop_assert_eq!(found, Err(Violation::NotJsonRpc), "{}", text),
        }
    }

    #[test]
    fn agrees_with_serde_json_on_broken_text(
        value in message(),
        cuts in cuts(),
        at in any::<prop::sample::Index>(),
        damage in prop::option::of(any::<u8>()),
    ) {
        let mut text = value.to_string().into_bytes();
        let at = at.index(text.len());
        match damage {
            Some(byte) => text[at] = byte,
            None => drop(text.remove(at)),
        }
        let (found, _) = scan_in(&text, &cuts);
        let valid = std::str::from_utf8(&text)
            .is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
        let broken = matches!(
            found,
            Err(Violation::MalformedJson | Violation::TrailingJson | Violation::TruncatedJson)
        );
        if valid {
            prop_assert!(!broken, "{:?} {}", found, String::from_utf8_lossy(&text));
        } else {
            // A damaged first byte may make a batch or a scalar of it before the damage shows.
            prop_assert!(found.is_err(), "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn never_panics_and_says_the_same_in_every_chunking(
        text in prop::collection::vec(
            prop_oneof![
                6 => prop::sample::select(br#"{}[]":,0123456789.eE+-\/utrfalsn"#.to_vec()),
                1 => any::<u8>(),
            ], 0..80),
        cuts in cuts(),
    ) {
        let mut text = text;
        text.splice(0..0, br#"{"jsonrpc":"2.0","id":1,"result":"#.iter().copied());
        prop_assert_eq!(scan_in(&text, &cuts), scan_in(&text, &[usize::MAX]));
    }
}
