//! The SDK's own client, over both transports and in both eras.

use rmcp::{
    RoleClient, ServiceExt as _,
    model::{CallToolRequestParams, ProtocolVersion},
    service::{ClientLifecycleMode, ClientServiceExt as _, RunningService},
    transport::StreamableHttpClientTransport,
};
use serde_json::json;

use crate::{
    raw::{metric, until},
    server::Server,
};

async fn exercise(client: &RunningService<RoleClient, ()>) {
    let tools = client.list_all_tools().await.unwrap();
    assert_eq!(tools.len(), 4);
    for (tool, arguments, expected) in [
        ("echo", json!({"text": "hi"}), "hi"),
        ("add", json!({"a": 1, "b": 2}), "3"),
        ("slow", json!({"ms": 1}), "slept 1 ms"),
        ("payload", json!({"bytes": 4}), "xxxx"),
    ] {
        let arguments = arguments.as_object().unwrap().clone();
        let result = client
            .call_tool(CallToolRequestParams::new(tool).with_arguments(arguments))
            .await
            .unwrap();
        let content = serde_json::to_value(&result).unwrap();
        assert_eq!(content["content"][0]["text"], expected, "{tool}");
    }
}

#[tokio::test]
async fn sessions_era_over_http() {
    for kind in ["lean", "sdk"] {
        let server = Server::start(&["--sessions", kind]);
        let client = ().serve(StreamableHttpClientTransport::from_uri(server.url())).await.unwrap();
        exercise(&client).await;
        assert_eq!(metric(&server.metrics, "erlmcp_sessions_open"), 1.0);
        client.cancel().await.unwrap();
        until(|| metric(&server.metrics, "erlmcp_sessions_open") == 0.0);
    }
}

#[tokio::test]
async fn stateless_era_over_http() {
    let server = Server::start(&[]);
    let transport = StreamableHttpClientTransport::from_uri(server.url());
    let lifecycle =
        ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let client = ().serve_with_lifecycle(transport, lifecycle).await.unwrap();
    exercise(&client).await;
    assert_eq!(metric(&server.metrics, "erlmcp_sessions_created_total"), 0.0);
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn sessions_era_over_tcp() {
    let server = Server::start(&[]);
    let stream = tokio::net::TcpStream::connect(&server.tcp).await.unwrap();
    let client = ().serve(stream).await.unwrap();
    exercise(&client).await;
    client.cancel().await.unwrap();
}
