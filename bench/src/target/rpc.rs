//! Finds `id` and `method` of one JSON-RPC 2.0 object. No values are decoded, nothing is copied.
//!
//! It looks only at the object's own members, so that an `"id"` inside `params` is not taken for
//! the request's, and stops as soon as both are found: the rest is not validated.

/// One message, as far as an answer needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The raw JSON of `id`, quotes included; `None` in a notification.
    pub id: Option<&'a [u8]>,
    /// The text of `method`; `None` in a response.
    pub method: Option<&'a str>,
}

impl Message<'_> {
    /// Whether it wants an answer.
    pub fn is_request(&self) -> bool {
        self.id.is_some() && self.method.is_some()
    }
}

/// Scans one object; `None` if it is none, or ends before it should.
pub fn scan(bytes: &[u8]) -> Option<Message<'_>> {
    let mut message = Message { id: None, method: None };
    let mut at = skip_space(bytes, 0);
    if bytes.get(at) != Some(&b'{') {
        return None;
    }
    at = skip_space(bytes, at + 1);
    while bytes.get(at) != Some(&b'}') {
        let key_end = string_end(bytes, at)?;
        let key = &bytes[at + 1..key_end - 1];
        at = skip_space(bytes, key_end);
        if bytes.get(at) != Some(&b':') {
            return None;
        }
        at = skip_space(bytes, at + 1);
        let value_end = value_end(bytes, at)?;
        let value = &bytes[at..value_end];
        match key {
            b"id" if value != b"null" => message.id = Some(value),
            b"method" if value.len() >= 2 && value[0] == b'"' => {
                message.method = std::str::from_utf8(&value[1..value.len() - 1]).ok();
            }
            _ => {}
        }
        if message.is_request() {
            return Some(message);
        }
        at = skip_space(bytes, value_end);
        match bytes.get(at)? {
            b',' => at = skip_space(bytes, at + 1),
            b'}' => break,
            _ => return None,
        }
    }
    (message.id.is_some() || message.method.is_some()).then_some(message)
}

/// The text of a string member anywhere in `bytes`, such as `protocolVersion` in `params`.
pub fn find_text<'a>(bytes: &'a [u8], name: &str) -> Option<&'a str> {
    let quoted = format!("\"{name}\"");
    let found = bytes.windows(quoted.len()).position(|window| window == quoted.as_bytes())?;
    let at = skip_space(bytes, found + quoted.len());
    if bytes.get(at) != Some(&b':') {
        return None;
    }
    let at = skip_space(bytes, at + 1);
    let end = string_end(bytes, at)?;
    std::str::from_utf8(&bytes[at + 1..end - 1]).ok()
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// Index after the closing quote of the string that starts at `at`.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let mut at = at + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Index after the value that starts at `at`.
fn value_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => string_end(bytes, at),
        b'{' | b'[' => {
            let mut depth = 0usize;
            loop {
                match bytes.get(at)? {
                    b'"' => {
                        at = string_end(bytes, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => {
            let start = at;
            while !matches!(bytes.get(at)?, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n') {
                at += 1;
            }
            (at > start).then_some(at)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Option<(Option<&str>, Option<&str>)> {
        scan(text.as_bytes())
            .map(|message| (message.id.map(|id| std::str::from_utf8(id).unwrap()), message.method))
    }

    #[test]
    fn finds_id_and_method_wherever_they_stand() {
        let both = Some((Some("7"), Some("ping")));
        assert_eq!(seen(r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":{}}"#), both);
        assert_eq!(
            seen(r#" { "method" : "ping" , "params":{"id":[1,{"id":2}]}, "id" : 7 } "#),
            both
        );
        assert_eq!(seen(r#"{"params":{"x":"}\"{"},"method":"ping","id":7}"#), both);
        assert_eq!(seen(r#"{"id":"a\"b","method":"x"}"#), Some((Some(r#""a\"b""#), Some("x"))));
    }

    #[test]
    fn tells_notifications_and_responses_apart() {
        assert_eq!(seen(r#"{"method":"n","params":{"id":1}}"#), Some((None, Some("n"))));
        assert_eq!(seen(r#"{"id":1,"result":{"method":"x"}}"#), Some((Some("1"), None)));
    }

    #[test]
    fn refuses_what_is_no_message_without_panicking() {
        let texts =
            ["", "[", "{}", "[]", "{\"id\"", "{\"id\":", "{\"id\":1", "{\"a\\", "nul", "{\"id\":}"];
        for text in texts {
            assert_eq!(seen(text), None, "{text:?}");
        }
        let text = r#"{"jsonrpc":"2.0","params":{"a":["b\\"]},"id":7,"method":"ping"}"#;
        for cut in 0..text.len() - 1 {
            assert_eq!(seen(&text[..cut]), None, "at {cut}");
        }
    }

    #[test]
    fn finds_the_text_of_a_member() {
        let body = br#"{"params":{"protocolVersion" : "2025-06-18"}}"#;
        assert_eq!(find_text(body, "protocolVersion"), Some("2025-06-18"));
        assert_eq!(find_text(body, "version"), None);
    }
}
