//! `/v1/events`: what changes, as server-sent events.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use control::view::{Condition, TunnelState};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::caller::Viewer;
use crate::problem::Problem;
use crate::state::Gateway;

pub(crate) fn routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(events))
}

/// Follow changes as server-sent events
///
/// `generation` tells the generation of the desired state, at first and whenever it grows. `tunnel` tells the state of
/// a tunnel, of each at first and whenever it changes. A reader that falls behind is cut off and begins anew.
#[utoipa::path(get, path = "/v1/events", operation_id = "follow_events", tag = "operation",
    responses((status = 200, description = "An endless stream.", body = String, content_type = "text/event-stream"),
        (status = 401, description = "No token, or none that is known.", body = Problem, content_type = "application/problem+json")))]
async fn events(State(gateway): State<Gateway>, _: Viewer) -> impl IntoResponse {
    let (sender, receiver) = mpsc::channel(QUEUED_EVENTS);
    tokio::spawn(follow(gateway, sender));
    Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::default())
}

/// A tunnel's state without what moves with every packet.
type Seen = (Condition, Option<String>, Option<String>, Option<String>);

/// Ends when the reader hangs up, or the gateway.
async fn follow(gateway: Gateway, sender: mpsc::Sender<Result<Event, Infallible>>) {
    let mut generations = gateway.store.watch();
    generations.mark_changed();
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        let events = tokio::select! {
            () = sender.closed() => return,
            moved = generations.changed() => {
                if moved.is_err() {
                    return;
                }
                let generation = *generations.borrow_and_update();
                vec![Event::default().event("generation").id(generation.to_string()).data(generation.to_string())]
            }
            _ = look.tick() => changes(&mut seen, gateway.control.tunnel_states()),
        };
        for event in events {
            if sender.send_timeout(Ok(event), PATIENCE).await.is_err() {
                return;
            }
        }
    }
}

fn changes(seen: &mut BTreeMap<String, Seen>, states: Vec<TunnelState>) -> Vec<Event> {
    seen.retain(|name, _| states.iter().any(|state| state.name == *name));
    let mut events = Vec::new();
    for state in states {
        let now = (state.state, state.cause.clone(), state.spi_in.clone(), state.spi_out.clone());
        if seen.get(&state.name) != Some(&now) {
            events.extend(Event::default().event("tunnel").json_data(&state).ok());
            seen.insert(state.name, now);
        }
    }
    events
}

const QUEUED_EVENTS: usize = 256;
/// States are read without a lock from what the control plane published; reading them often costs little.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(10);
