//! The tools: names, schemas and what they do.
//!
//! Owns arguments, bounds and results. It must not know transports or sessions.

use std::{borrow::Cow, sync::Arc, time::Duration};

use rmcp::{
    ErrorData,
    model::{CallToolResult, ContentBlock, JsonObject, Tool, ToolAnnotations},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

/// Longest time `slow` sleeps, in ms.
pub const SLOW_MS_MAX: u64 = 60_000;
/// Largest text `payload` returns, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Deserialize)]
struct Echo {
    text: String,
}

#[derive(Deserialize)]
struct Add {
    a: f64,
    b: f64,
}

#[derive(Deserialize)]
struct Slow {
    ms: u64,
}

#[derive(Deserialize)]
struct Payload {
    bytes: usize,
}

/// The definitions of all tools, in the order in which they are listed.
pub fn definitions() -> Vec<Tool> {
    let number = |text: &str| json!({"type": "number", "description": text});
    let bounded = |text: &str, max: u64| {
        let mut schema = json!({"type": "integer", "minimum": 0, "maximum": max});
        schema["description"] = text.into();
        schema
    };
    vec![
        tool(
            "echo",
            "Return the text unchanged",
            json!({
                "text": {"type": "string", "description": "What to return"}
            }),
        ),
        tool("add", "Add two numbers", json!({"a": number("First"), "b": number("Second")})),
        tool(
            "slow",
            "Sleep, then answer",
            json!({
                "ms": bounded("Time to sleep, in milliseconds", SLOW_MS_MAX)
            }),
        ),
        tool(
            "payload",
            "Return a text of the given size",
            json!({
                "bytes": bounded("Size of the text, in bytes", PAYLOAD_BYTES_MAX as u64)
            }),
        ),
    ]
}

/// A read-only tool whose arguments are all required.
fn tool(name: &'static str, description: &'static str, properties: serde_json::Value) -> Tool {
    let required: Vec<&String> =
        properties.as_object().into_iter().flat_map(|fields| fields.keys()).collect();
    let mut schema = JsonObject::new();
    schema.insert("type".into(), "object".into());
    schema.insert("required".into(), json!(required));
    schema.insert("properties".into(), properties);
    schema.insert("additionalProperties".into(), false.into());
    let hints = ToolAnnotations::new().read_only(true).open_world(false);
    Tool::new(name, description, Arc::new(schema)).with_annotations(hints)
}

/// Runs tool `name`.
///
/// A value out of bounds is a result with `isError`, which the caller may correct.
///
/// # Errors
/// -32602 for an unknown tool and for arguments of another shape than the schema's.
pub async fn call(name: &str, arguments: Option<JsonObject>) -> Result<CallToolResult, ErrorData> {
    match name {
        "echo" => {
            let Echo { text } = parse(name, arguments)?;
            Ok(text_result(text))
        }
        "add" => {
            let Add { a, b } = parse(name, arguments)?;
            Ok(text_result(format!("{}", a + b)))
        }
        "slow" => {
            let Slow { ms } = parse(name, arguments)?;
            if ms > SLOW_MS_MAX {
                return Ok(failure(format!("ms must be at most {SLOW_MS_MAX}, got {ms}")));
            }
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(text_result(format!("slept {ms} ms")))
        }
        "payload" => {
            let Payload { bytes } = parse(name, arguments)?;
            if bytes > PAYLOAD_BYTES_MAX {
                return Ok(failure(format!(
                    "bytes must be at most {PAYLOAD_BYTES_MAX}, got {bytes}"
                )));
            }
            Ok(text_result("x".repeat(bytes)))
        }
        unknown => Err(ErrorData::invalid_params(format!("Unknown tool: {unknown}"), None)),
    }
}

fn parse<T: DeserializeOwned>(name: &str, arguments: Option<JsonObject>) -> Result<T, ErrorData> {
    serde_json::from_value(serde_json::Value::Object(arguments.unwrap_or_default())).map_err(
        |error| {
            let text: Cow<'static, str> = format!("Invalid arguments of {name}: {error}").into();
            ErrorData::invalid_params(text, None)
        },
    )
}

fn text_result(text: String) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

fn failure(text: String) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}
