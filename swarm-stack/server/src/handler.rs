//! The MCP server as the SDK sees it: identity, capabilities, tools, subscriptions.
//!
//! Owns the answers to MCP requests. It must not know which transport carries them.

use std::sync::Arc;

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, Implementation, ListToolsResult,
        PaginatedRequestParams, ServerCapabilities, ServerConfig, SubscriptionFilter, Tool,
    },
    service::{RequestContext, SubscriptionContext},
};
use tokio_util::sync::CancellationToken;

use crate::{call, metrics::Metrics, tools};

/// The handler of one session or one stateless request: a handle to what all of them share.
#[derive(Clone)]
pub struct Handler(Arc<Shared>);

struct Shared {
    config: ServerConfig,
    tools: Vec<Tool>,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
}

impl Handler {
    /// A handler that ends its subscriptions once `stopping` is cancelled.
    pub fn new(metrics: Arc<Metrics>, stopping: CancellationToken) -> Self {
        let capabilities =
            ServerCapabilities::builder().enable_tools().enable_tool_list_changed().build();
        let mut config = ServerConfig::new(capabilities);
        config.server_info = Implementation::new("erlmcp-server", env!("CARGO_PKG_VERSION"));
        Self(Arc::new(Shared { config, tools: tools::definitions(), metrics, stopping }))
    }
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        self.0.config.clone()
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.0.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.0.tools.clone()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let result = tools::call(&request.name, request.arguments).await;
        call::mark_result(&context.extensions, &result);
        result.map(CallToolResponse::from)
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let _open = self.0.metrics.stream_opened();
        tokio::select! {
            () = context.cancelled() => {}
            () = self.0.stopping.cancelled() => {}
        }
        Ok(())
    }
}
