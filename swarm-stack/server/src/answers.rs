//! The form of a sessions-era answer: in one piece with its head, or as JSON.
//!
//! Owns how the SDK's SSE answer to a POST is put on the wire. It must not know MCP methods.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, Response, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use sse_stream::{Sse, SseStream};

/// Holds the head back until the first event is there, so that a quick answer is one write and one
/// segment. A slow one gets its head with the SDK's first keep-alive comment, after 15 s.
pub async fn in_one_piece(response: Response<Body>) -> Response<Body> {
    let (head, mut rest) = response.into_parts();
    let Some(Ok(first)) = rest.frame().await else {
        return Response::from_parts(head, Body::empty());
    };
    // Polled once more, the body tells that it has ended: the terminator joins the same write.
    let body = Resumed { first: Some(first), rest };
    Response::from_parts(head, Body::new(body))
}

/// A body whose first frame was taken out and is put back.
struct Resumed {
    first: Option<Frame<Bytes>>,
    rest: Body,
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        Pin::new(&mut self.rest).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Turns an SSE answer of one message into JSON. One of several messages stays SSE, since JSON can
/// carry only the last of them.
pub async fn as_json(response: Response<Body>) -> Response<Body> {
    if !is_sse(&response) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let mut events = SseStream::new(body);
    let mut messages = Vec::new();
    while let Some(Ok(Sse { data: Some(data), .. })) = events.next().await {
        // Priming events carry no data.
        if !data.is_empty() {
            messages.push(data);
        }
    }
    if messages.len() == 1 {
        head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        return Response::from_parts(head, Body::from(messages.swap_remove(0)));
    }
    let events: String = messages.iter().map(|data| format!("data: {data}\n\n")).collect();
    Response::from_parts(head, Body::from(events))
}

/// Whether a response is an event stream.
pub fn is_sse(response: &Response<Body>) -> bool {
    response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sse(text: &'static str) -> Response<Body> {
        Response::builder()
            .header(header::CONTENT_TYPE, "text/event-stream")
            .body(Body::from(text))
            .unwrap()
    }

    async fn text(response: Response<Body>) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn one_message_after_a_priming_event_becomes_json() {
        let response = as_json(sse("data: \nid: 0\nretry: 3000\n\ndata: {\"id\":1}\n\n")).await;
        assert!(!is_sse(&response));
        assert_eq!(text(response).await, "{\"id\":1}");
    }

    #[tokio::test]
    async fn several_messages_stay_an_event_stream() {
        let response = as_json(sse("data: {\"id\":1}\n\ndata: {\"id\":2}\n\n")).await;
        assert!(is_sse(&response));
        assert_eq!(text(response).await, "data: {\"id\":1}\n\ndata: {\"id\":2}\n\n");
    }

    #[tokio::test]
    async fn a_keep_alive_comment_hides_no_message() {
        let response = as_json(sse(": ping\n\ndata: {\"id\":1}\n\n")).await;
        assert_eq!(text(response).await, "{\"id\":1}");
    }

    #[tokio::test]
    async fn holding_the_head_back_loses_no_frame() {
        let frames = ["data: 1\n\n", "data: 2\n\n"].map(Ok::<_, std::io::Error>);
        let body = Body::from_stream(futures_util::stream::iter(frames));
        let response = in_one_piece(Response::new(body)).await;
        assert_eq!(text(response).await, "data: 1\n\ndata: 2\n\n");
    }
}
