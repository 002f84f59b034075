//! Tests of the MCP messages against serde_json.
