//! The HTTP side of the stand-in agent.

use std::convert::Infallible;
use std::io;
use std::thread;

use bytes::Bytes;
use cutover_plan::id::DeployId;
use cutover_plan::release::Standing;
use cutover_wire::agent::{Accepted, AppView, Problem, ReleaseView, Welcome};
use cutover_wire::request::{AbortRequest, DecisionRequest, DeployRequest, Query};
use cutover_wire::signature::{
    Headers, ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, same_token, verify,
};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};

use super::stream::{PACE, events};
use super::{APPS, Agent, Deploy, Fault, app};

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// Where it listens.
pub(crate) enum Listener {
    /// Calls are verified.
    Network(std::net::TcpListener),
    /// Calls are trusted.
    Socket(std::os::unix::net::UnixListener),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    Signature,
    Socket,
}

/// Serves on a thread of its own, for as long as the process lives.
pub(crate) fn spawn(agent: Agent, listener: Listener) {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            match listener {
                Listener::Network(listener) => {
                    listener.set_nonblocking(true).unwrap();
                    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                    while let Ok((stream, _)) = listener.accept().await {
                        tokio::spawn(serve(agent.clone(), stream, Trust::Signature));
                    }
                }
                Listener::Socket(listener) => {
                    listener.set_nonblocking(true).unwrap();
                    let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                    while let Ok((stream, _)) = listener.accept().await {
                        tokio::spawn(serve(agent.clone(), stream, Trust::Socket));
                    }
                }
            }
        });
    });
}

async fn serve(agent: Agent, stream: impl AsyncRead + AsyncWrite + Unpin, trust: Trust) {
    let answer = |request| answer(agent.clone(), request, trust);
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    // A dropped connection is an error here, and meant.
    let _ = connection.await;
}

/// An error closes the connection without an answer.
async fn answer(
    agent: Agent,
    request: Request<Incoming>,
    trust: Trust,
) -> Result<Answer, io::Error> {
    let (head, body) = request.into_parts();
    let path = head
        .uri
        .path()
        .trim_start_matches("/behind/a/proxy")
        .to_owned();
    let line = format!("{} {path}", head.method);
    let after = header(&head.headers, "last-event-id").map(|after| format!(" after {after}"));
    agent
        .state()
        .seen
        .push(format!("{line}{}", after.unwrap_or_default()));
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let fault = agent.fault(&line);
    let closed = || Err(io::ErrorKind::ConnectionAborted.into());
    match fault {
        Some(Fault::Drop) => return closed(),
        Some(Fault::BadGateway) => {
            let page = Full::new(Bytes::from("<html>502</html>"))
                .map_err(never)
                .boxed_unsync();
            return Ok(Response::builder().status(502).body(page).unwrap());
        }
        Some(Fault::Unavailable) => return Ok(problem(503, "starting", "the agent is starting")),
        Some(Fault::LoseAnswer | Fault::CutAfter(_)) | None => {}
    }
    let call = Call {
        agent: &agent,
        headers: &head.headers,
        body: &body,
        trust,
        fault,
    };
    let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
    let answer = match (head.method.as_str(), parts.as_slice()) {
        ("POST", ["v1", "deploys"]) => call.deploys(),
        ("POST", ["v1", "queries"]) => call.queries(),
        ("GET", ["v1", "deploys", id, "events"]) => call.events(id),
        ("GET", ["v1", "deploys", id]) => call.view(id),
        ("POST", ["v1", "deploys", id, "abort"]) => call.abort(id),
        (
            "POST",
            [
                "v1",
                "deploys",
                id,
                word @ ("approve" | "reject" | "promote"),
            ],
        ) => call.decide(id, word),
        _ => problem(404, "no_such_path", "there is nothing here"),
    };
    match fault {
        Some(Fault::LoseAnswer) => closed(),
        _ => Ok(answer),
    }
}

struct Call<'a> {
    agent: &'a Agent,
    headers: &'a HeaderMap,
    body: &'a [u8],
    trust: Trust,
    fault: Option<Fault>,
}

impl Call<'_> {
    /// The id of a call that may be taken, or why it may not.
    fn verified(&self) -> Result<String, Box<Answer>> {
        if self.trust == Trust::Socket {
            return Ok(header(self.headers, ID_HEADER)
                .unwrap_or_default()
                .to_owned());
        }
        let headers = Headers {
            id: header(self.headers, ID_HEADER),
            timestamp: header(self.headers, TIMESTAMP_HEADER),
            signature: header(self.headers, SIGNATURE_HEADER),
        };
        let now = u64::try_from(self.now().as_second()).unwrap();
        let verified = verify(&[self.agent.secret()], headers, self.body, now);
        verified
            .map(|verified| verified.id)
            .map_err(|error| Box::new(problem(401, "not_verified", &error.to_string())))
    }

    fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_secs(self.agent.state().clock_ahead)
    }

    /// The deploy of a path, if the token is its own.
    fn deploy(&self, id: &str) -> Result<DeployId, Box<Answer>> {
        let refused = |status, text| Err(Box::new(problem(status, "no_such_deploy", text)));
        let Ok(id) = DeployId::parse(id) else {
            return refused(404, "there is no such deploy");
        };
        if !self.agent.state().deploys.contains_key(&id) {
            return refused(404, "there is no such deploy");
        }
        let token = header(self.headers, AUTHORIZATION.as_str())
            .and_then(|value| value.strip_prefix("Bearer "));
        let own = self.agent.secret().token("deploy", id.as_str());
        if self.trust == Trust::Signature && !token.is_some_and(|token| same_token(token, &own)) {
            return refused(401, "the token is not this deploy's");
        }
        Ok(id)
    }

    fn deploys(&self) -> Answer {
        let call = match self.verified() {
            Ok(call) => call,
            Err(refusal) => return *refusal,
        };
        let request: DeployRequest = match serde_json::from_slice(self.body) {
            Ok(request) => request,
            Err(error) => return problem(400, "malformed", &error.to_string()),
        };
        match request.app.as_str() {
            "unknown" => {
                return problem(404, "unknown_app", "there is no app unknown on this host");
            }
            "busy" => return problem(409, "busy", "another deploy of busy is under way"),
            _ => {}
        }
        let accepted = |deploy: &DeployId| {
            let token = self.agent.secret().token("deploy", deploy.as_str());
            let deploy = deploy.clone();
            json(202, &Accepted { deploy, token })
        };
        let mut state = self.agent.state();
        if let Some((body, deploy)) = state.calls.get(&call) {
            assert_eq!(body, self.body, "a repeated call has the same body");
            return accepted(deploy);
        }
        let number = u8::try_from(state.deploys.len()).unwrap();
        let id = DeployId::new(
            u64::try_from(Timestamp::now().as_millisecond()).unwrap(),
            [number; 10],
        );
        state.calls.insert(call, (self.body.to_vec(), id.clone()));
        state
            .deploys
            .insert(id.clone(), Deploy::begin(id.clone(), request));
        drop(state);
        let (agent, deploy) = (self.agent.clone(), id.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(PACE).await;
                let mut state = agent.state();
                let deploy = state.deploys.get_mut(&deploy).unwrap();
                deploy.step();
                if deploy.view.outcome.is_some() {
                    return;
                }
            }
        });
        accepted(&id)
    }

    fn queries(&self) -> Answer {
        if let Err(refusal) = self.verified() {
            return *refusal;
        }
        match serde_json::from_slice(self.body) {
            Ok(Query::Verify {}) => json(
                200,
                &Welcome {
                    version: "0.0.0-stand-in".to_owned(),
                    now: self.now(),
                    apps: APPS.map(app).to_vec(),
                },
            ),
            Ok(Query::Status { app: Some(app) }) if !APPS.contains(&app.as_str()) => problem(
                404,
                "unknown_app",
                &format!("there is no app {app} on this host"),
            ),
            Ok(Query::Status { app: wanted }) => {
                let shown = APPS.iter().filter(|name| {
                    wanted
                        .as_ref()
                        .is_none_or(|wanted| wanted.as_str() == **name)
                });
                let views: Vec<_> = shown.map(|name| self.app_view(name)).collect();
                json(200, &views)
            }
            Ok(Query::History { app, limit }) => {
                let state = self.agent.state();
                let views = state.deploys.values().rev().map(|deploy| &deploy.view);
                let own = views.filter(|view| app.as_ref().is_none_or(|app| view.app == *app));
                let limit = usize::try_from(limit.unwrap_or(20)).unwrap();
                json(200, &own.take(limit).collect::<Vec<_>>())
            }
            Ok(Query::Plan { .. }) => {
                problem(422, "nothing_to_do", "there is nothing to roll back to")
            }
            Err(error) => problem(400, "malformed", &error.to_string()),
        }
    }

    fn app_view(&self, name: &str) -> AppView {
        let state = self.agent.state();
        let own = || {
            state
                .deploys
                .values()
                .filter(|deploy| deploy.view.app.as_str() == name)
        };
        let over = |deploy: &&Deploy| deploy.view.outcome.is_some();
        AppView {
            app: app(name),
            domains: vec![format!("{name}.example.com")],
            serving: Some(ReleaseView {
                number: cutover_plan::id::ReleaseNumber(7),
                image: format!("ghcr.io/acme/{name}@sha256:{}", "7".repeat(64)),
                standing: Standing::Proven,
                condition: "running".to_owned(),
            }),
            standby: None,
            deploying: own()
                .find(|deploy| !over(deploy))
                .map(|deploy| deploy.view.clone()),
            waiting: None,
            last: own().rfind(over).map(|deploy| deploy.view.clone()),
        }
    }

    fn view(&self, id: &str) -> Answer {
        match self.deploy(id) {
            Ok(id) => json(200, &self.agent.state().deploys[&id].view),
            Err(refusal) => *refusal,
        }
    }

    fn abort(&self, id: &str) -> Answer {
        let id = if self.body.is_empty() {
            self.deploy(id)
        } else {
            self.verified().and_then(|_| {
                let abort: AbortRequest = serde_json::from_slice(self.body).unwrap();
                assert_eq!(
                    abort.abort.as_str(),
                    id,
                    "the body names the deploy of the path"
                );
                match self.agent.state().deploys.contains_key(&abort.abort) {
                    true => Ok(abort.abort),
                    false => Err(Box::new(problem(
                        404,
                        "no_such_deploy",
                        "there is no such deploy",
                    ))),
                }
            })
        };
        match id {
            Ok(id) => {
                let mut state = self.agent.state();
                state.deploys.get_mut(&id).unwrap().abort();
                Response::builder()
                    .status(202)
                    .body(Full::default().map_err(never).boxed_unsync())
                    .unwrap()
            }
            Err(refusal) => *refusal,
        }
    }

    fn decide(&self, id: &str, word: &str) -> Answer {
        let call = match self.verified() {
            Ok(call) => call,
            Err(refusal) => return *refusal,
        };
        let request: DecisionRequest = serde_json::from_slice(self.body).unwrap();
        let said = (request.deploy.as_str(), request.decision.name());
        assert_eq!(said, (id, word), "the body agrees with the path");
        let mut state = self.agent.state();
        let known = state.decisions.contains_key(&call);
        let Some(deploy) = state.deploys.get_mut(&request.deploy) else {
            return problem(404, "no_such_deploy", "there is no such deploy");
        };
        if !known && !deploy.decide(&request.decision) {
            return problem(409, "not_asked", "the deploy waits for nobody's word");
        }
        let view = deploy.view.clone();
        state.decisions.insert(call, request);
        json(202, &view)
    }

    fn events(&self, id: &str) -> Answer {
        let id = match self.deploy(id) {
            Ok(id) => id,
            Err(refusal) => return *refusal,
        };
        let after = header(self.headers, "last-event-id").map(|after| after.parse().unwrap());
        let left = match self.fault {
            Some(Fault::CutAfter(events)) => events,
            _ => usize::MAX,
        };
        let body = events(self.agent.clone(), id, after.unwrap_or(0), left);
        let answer = Response::builder().header("content-type", "text/event-stream");
        answer.body(body).unwrap()
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn never(never: Infallible) -> io::Error {
    match never {}
}

fn json(status: u16, value: &impl Serialize) -> Answer {
    let body = Full::new(Bytes::from(serde_json::to_vec(value).unwrap()));
    let answer = Response::builder().status(StatusCode::from_u16(status).unwrap());
    answer.body(body.map_err(never).boxed_unsync()).unwrap()
}

fn problem(status: u16, code: &str, message: &str) -> Answer {
    let (code, message) = (code.to_owned(), message.to_owned());
    json(
        status,
        &Problem {
            code,
            message,
            hint: None,
            deploy: None,
        },
    )
}
