//! The constant text of client messages, put together once at start.
//!
//! Owns every header field and every JSON body. Must not know of gaps that are filled per
//! request, except where the id belongs.

use serde_json::{Map, Value, json};

use super::{BuildError, Era, Operation, Target};

/// The body of a message, with the place of its id.
pub(super) struct Envelope {
    pub(super) text: Vec<u8>,
    pub(super) id_at: Option<usize>,
}

/// The head of the request, from the request line to the last constant field.
pub(super) fn head(target: &Target, operation: Operation<'_>) -> Result<Vec<u8>, BuildError> {
    let method = match operation {
        Operation::PlainGet | Operation::Stream => "GET",
        Operation::Plain { method, .. } => method,
        Operation::Delete => "DELETE",
        _ => "POST",
    };
    check("method", method, is_token)?;
    check("path", &target.path, |byte| byte.is_ascii_graphic())?;
    let mut head = format!("{method} {} HTTP/1.1\r\n", target.path);
    let given =
        |name: &str| target.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    let mut put = |name: &str, value: &str| {
        check("header field name", name, is_token)?;
        // RFC 9110 section 5.5; a value neither begins nor ends with a space.
        let fits = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if !fits || value.trim() != value {
            // The value may be a secret, so that it is not repeated.
            return Err(BuildError::BadHeader {
                what: "the value of a header field",
                text: name.to_owned(),
            });
        }
        head.extend([name, ": ", value, "\r\n"]);
        Ok(())
    };
    if !given("host") {
        check("host", &target.host, |byte| byte.is_ascii_graphic())?;
        put("Host", &target.host)?;
    }
    let user_agent = format!("{}/{}", target.client_name, target.client_version);
    if !given("user-agent") && !target.client_name.is_empty() {
        put("User-Agent", &user_agent)?;
    }
    for (name, value) in &target.headers {
        put(name, value)?;
    }
    match operation {
        Operation::PlainGet => return Ok(head.into_bytes()),
        Operation::Plain { body, .. } => {
            // RFC 9110 section 8.6: where content is usual, its absence is said.
            if body.is_empty() && matches!(method, "POST" | "PUT" | "PATCH") {
                put("Content-Length", "0")?;
            }
            return Ok(head.into_bytes());
        }
        Operation::Stream => put("Accept", "text/event-stream")?,
        Operation::Delete => {}
        _ => {
            put("Content-Type", "application/json")?;
            put("Accept", "application/json, text/event-stream")?;
        }
    }
    let handshake = operation == Operation::Initialize;
    if target.revision.has_version_header() && !handshake {
        put("MCP-Protocol-Version", target.revision.as_str())?;
    }
    if target.revision.era() == Era::Stateless {
        put("Mcp-Method", operation.name())?;
        if let Operation::ToolsCall { name, .. }
        | Operation::PromptsGet { name, .. }
        | Operation::ResourcesRead { uri: name } = operation
        {
            put("Mcp-Name", &header_value(name))?;
        }
    }
    Ok(head.into_bytes())
}

/// The JSON-RPC message, or `None` for an operation that is none.
pub(super) fn body(
    target: &Target,
    operation: Operation<'_>,
) -> Result<Option<Envelope>, BuildError> {
    let revision = target.revision;
    if !operation.is_in(revision) {
        return Err(BuildError::NotInRevision { what: operation.name(), revision });
    }
    let client = json!({"name": target.client_name, "version": target.client_version});
    let params = match operation {
        Operation::PlainGet | Operation::Stream | Operation::Delete => return Ok(None),
        Operation::Plain { body: [], .. } => return Ok(None),
        Operation::Plain { body, .. } => {
            return Ok(Some(Envelope { text: body.to_vec(), id_at: None }));
        }
        Operation::AnswerPing => return Ok(Some(answer("result", &json!({})))),
        Operation::AnswerUnknown => {
            let error =
                json!({"code": super::code::METHOD_NOT_FOUND, "message": "Method not found"});
            return Ok(Some(answer("error", &error)));
        }
        Operation::Initialize => json!({
            "protocolVersion": revision.as_str(),
            "capabilities": {},
            "clientInfo": client,
        }),
        Operation::ToolsCall { name, arguments } | Operation::PromptsGet { name, arguments } => {
            json!({"name": name, "arguments": object(name, arguments)?})
        }
        Operation::ResourcesRead { uri } => json!({"uri": uri}),
        Operation::Listen => json!({"notifications": {
            "toolsListChanged": true,
            "promptsListChanged": true,
            "resourcesListChanged": true,
        }}),
        // Some servers die of a message without params, so there always are some.
        Operation::Initialized
        | Operation::Ping
        | Operation::ToolsList
        | Operation::ResourcesList
        | Operation::PromptsList
        | Operation::Discover => json!({}),
    };
    let mut params = params;
    if let (Era::Stateless, Value::Object(params)) = (revision.era(), &mut params) {
        // 2026-07-28, "Overview", `_meta`: required in every request.
        params.insert(
            "_meta".to_owned(),
            json!({
                "io.modelcontextprotocol/protocolVersion": revision.as_str(),
                "io.modelcontextprotocol/clientInfo": client,
                "io.modelcontextprotocol/clientCapabilities": {},
            }),
        );
    }
    let method = Value::from(operation.name());
    Ok(Some(if operation == Operation::Initialized {
        let text = format!(r#"{{"jsonrpc":"2.0","method":{method},"params":{params}}}"#);
        Envelope { text: text.into_bytes(), id_at: None }
    } else {
        with_id(&format!(r#","method":{method},"params":{params}}}"#))
    }))
}

/// A message whose id comes first, so that a server's log shows it.
fn with_id(rest: &str) -> Envelope {
    const START: &str = r#"{"jsonrpc":"2.0","id":"#;
    Envelope { text: format!("{START}{rest}").into_bytes(), id_at: Some(START.len()) }
}

fn answer(member: &str, value: &Value) -> Envelope {
    with_id(&format!(r#","{member}":{value}}}"#))
}

fn object(name: &str, arguments: &str) -> Result<Map<String, Value>, BuildError> {
    serde_json::from_str(arguments).map_err(|error| BuildError::BadArguments {
        name: name.to_owned(),
        reason: error.to_string(),
    })
}

fn check(what: &'static str, text: &str, allowed: impl Fn(u8) -> bool) -> Result<(), BuildError> {
    if text.bytes().all(allowed) && !text.is_empty() {
        Ok(())
    } else {
        Err(BuildError::BadHeader { what, text: text.to_owned() })
    }
}

/// A tchar (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A body value as a header value: as it is if that is safe, else in the Base64 form
/// (2026-07-28, "Value Encoding").
pub(super) fn header_value(value: &str) -> String {
    const START: &str = "=?base64?";
    const END: &str = "?=";
    let safe = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
        && value.trim() == value
        && !value.is_empty();
    if safe && !(value.starts_with(START) && value.ends_with(END)) {
        return value.to_owned();
    }
    format!("{START}{}{END}", base64(value.as_bytes()))
}

/// Base64 with padding (RFC 4648 section 4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
