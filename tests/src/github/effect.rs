//! What a call does, and what GitHub answers.

use http::StatusCode;
use serde_json::{Value, json};

use super::Inner;
use super::check::Request;
use super::description::Description;
use super::signin::{Caller, unix_now};
use super::state::{Author, Deployment, Status};

/// A status and a body.
pub(super) type Answer = (StatusCode, Value);

/// The longest description of a status that GitHub takes.
const DESCRIPTION: usize = 140;

/// A commit that is not in any repository.
pub(super) const UNKNOWN_SHA: &str = "0000000000000000000000000000000000000000";

/// GitHub's words for a refusal.
pub(super) fn refusal(status: u16, message: &str) -> Answer {
    let body = json!({
        "message": message,
        "documentation_url": "https://docs.github.com/rest",
    });
    (
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        body,
    )
}

impl Inner {
    /// Carries a call out.
    pub(super) fn carry_out(&mut self, description: &Description, request: &Request) -> Answer {
        let parts: Vec<&str> = request.path.split('/').skip(1).collect();
        let repository = match parts[..] {
            ["repos", owner, name, ..] => Some(format!("{owner}/{name}")),
            _ => None,
        };
        let bearer = request.bearer.as_deref().unwrap_or_default();
        let Some(caller) = self.signins.caller(bearer, repository.as_deref()) else {
            return refusal(401, "Bad credentials");
        };
        if let Some(repository) = &repository
            && !self.state.repositories.contains(repository)
        {
            return refusal(404, "Not Found");
        }
        let repository = repository.unwrap_or_default();
        match (request.method.as_str(), &parts[..], caller) {
            ("GET", ["repos", _, _, "installation"], Caller::App(app)) => {
                installation(description, app)
            }
            ("POST", ["app", "installations", _, "access_tokens"], Caller::App(app)) => {
                self.mint(description, request, app)
            }
            (_, ["repos", ..], Caller::Stranger) => {
                refusal(403, "Resource not accessible by integration")
            }
            ("GET", ["repos", _, _, "deployments"], Caller::Reporter) => {
                self.list(description, request, &repository)
            }
            ("POST", ["repos", _, _, "deployments"], Caller::Reporter) => {
                self.create(description, request, &repository)
            }
            ("GET", ["repos", _, _, "deployments", id, "statuses"], Caller::Reporter) => {
                self.statuses(description, request, &repository, id)
            }
            ("POST", ["repos", _, _, "deployments", id, "statuses"], Caller::Reporter) => {
                self.add_status(description, request, &repository, id)
            }
            _ => refusal(401, "A JSON web token could not be decoded"),
        }
    }

    fn mint(&mut self, description: &Description, request: &Request, app: u64) -> Answer {
        let scope = request.body.clone().unwrap_or_default();
        let number = self.state.number();
        match self.signins.mint(app, &scope, number) {
            Err(message) => refusal(422, &message),
            Ok(token) => {
                let mut body = description.example("installation-token");
                let expires = unix_now().as_secs() + 3_600;
                body["token"] = json!(token);
                body["expires_at"] = json!(rfc3339(expires));
                body["permissions"] = scope["permissions"].clone();
                (StatusCode::CREATED, body)
            }
        }
    }

    fn list(&self, description: &Description, request: &Request, repository: &str) -> Answer {
        let meets =
            |name: &str, value: &str| request.value(name).is_none_or(|wanted| wanted == value);
        let found = self.state.deployments.values().rev().filter(|one| {
            one.repository == repository
                && meets("sha", &one.sha)
                && meets("task", &one.task)
                && meets("environment", &one.environment)
        });
        let shown = |one: &Deployment| show_deployment(description, one);
        (StatusCode::OK, page(request, found.map(shown)))
    }

    fn create(&mut self, description: &Description, request: &Request, repository: &str) -> Answer {
        let body = request.body.clone().unwrap_or_default();
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        if text("ref") == UNKNOWN_SHA {
            return refusal(422, &format!("No ref found for: {UNKNOWN_SHA}"));
        }
        if body["auto_merge"] != false {
            return refusal(409, "Conflict merging main into the branch.");
        }
        if body["required_contexts"] != json!([]) {
            return refusal(409, "Conflict: Commit status checks failed for the branch.");
        }
        let environment = match text("environment") {
            empty if empty.is_empty() => "production".to_owned(),
            named => named,
        };
        let made = Deployment {
            id: self.state.number(),
            repository: repository.to_owned(),
            sha: text("ref"),
            task: text("task"),
            payload: body["payload"].clone(),
            production: body["production_environment"]
                .as_bool()
                .unwrap_or(environment == "production"),
            environment,
            description: text("description"),
            transient: body["transient_environment"] == true,
            statuses: Vec::new(),
        };
        let twin = self.state.deployments.values().find(|one| {
            one.repository == made.repository
                && one.deploy().is_some()
                && one.deploy() == made.deploy()
        });
        if let Some(twin) = twin {
            let (first, second) = (twin.id, made.id);
            self.violations.push(format!(
                "deployments {first} and {second} are of the same deploy"
            ));
        }
        let shown = show_deployment(description, &made);
        self.state.deployments.insert(made.id, made);
        (StatusCode::CREATED, shown)
    }

    fn statuses(
        &self,
        description: &Description,
        request: &Request,
        repository: &str,
        id: &str,
    ) -> Answer {
        match self.deployment(repository, id) {
            None => refusal(404, "Not Found"),
            Some(found) => {
                let shown = |status: &Status| show_status(description, found, status);
                (
                    StatusCode::OK,
                    page(request, found.statuses.iter().rev().map(shown)),
                )
            }
        }
    }

    fn add_status(
        &mut self,
        description: &Description,
        request: &Request,
        repository: &str,
        id: &str,
    ) -> Answer {
        let Some(deployment) = self.deployment(repository, id).cloned() else {
            return refusal(404, "Not Found");
        };
        let body = request.body.clone().unwrap_or_default();
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        if text("description").chars().count() > DESCRIPTION {
            return refusal(
                422,
                "Validation Failed: description is too long (maximum is 140 characters)",
            );
        }
        let status = Status {
            description: text("description"),
            log_url: text("log_url"),
            environment_url: text("environment_url"),
            ..self.state.status(&text("state"), Author::Caller)
        };
        self.violations.extend(deployment.objection(&status));
        let shown = show_status(description, &deployment, &status);
        let succeeded = status.state == "success";
        if let Some(deployment) = self.state.deployments.get_mut(&deployment.id) {
            deployment.statuses.push(status);
        }
        if succeeded && body["auto_inactive"] != false {
            self.state.make_prior_inactive(deployment.id);
        }
        (StatusCode::CREATED, shown)
    }

    fn deployment(&self, repository: &str, id: &str) -> Option<&Deployment> {
        let found = self.state.deployments.get(&id.parse().ok()?)?;
        (found.repository == repository).then_some(found)
    }
}

fn installation(description: &Description, app: u64) -> Answer {
    let mut body = description.example("installation");
    body["id"] = json!(app * 1_000);
    body["app_id"] = json!(app);
    (StatusCode::OK, body)
}

fn show_deployment(description: &Description, one: &Deployment) -> Value {
    let mut shown = description.example("deployment");
    shown["id"] = json!(one.id);
    shown["sha"] = json!(one.sha);
    shown["ref"] = json!(one.sha);
    shown["task"] = json!(one.task);
    shown["payload"] = one.payload.clone();
    shown["environment"] = json!(one.environment);
    shown["original_environment"] = json!(one.environment);
    shown["description"] = json!(one.description);
    shown["transient_environment"] = json!(one.transient);
    shown["production_environment"] = json!(one.production);
    shown
}

fn show_status(description: &Description, deployment: &Deployment, one: &Status) -> Value {
    let mut shown = description.example("deployment-status");
    shown["id"] = json!(one.id);
    shown["state"] = json!(one.state);
    shown["description"] = json!(one.description);
    shown["environment"] = json!(deployment.environment);
    shown["log_url"] = json!(one.log_url);
    shown["target_url"] = json!(one.log_url);
    shown["environment_url"] = json!(one.environment_url);
    shown
}

/// The page that was asked for: 30 to a page, unless more are wanted.
fn page(request: &Request, all: impl Iterator<Item = Value>) -> Value {
    let number = |name: &str, or: usize| {
        request
            .value(name)
            .and_then(|n| n.parse().ok())
            .unwrap_or(or)
    };
    let size = number("per_page", 30).min(100);
    let skipped = number("page", 1).saturating_sub(1) * size;
    Value::Array(all.skip(skipped).take(size).collect())
}

/// A time as GitHub writes it.
fn rfc3339(unix: u64) -> String {
    let time = i64::try_from(unix)
        .ok()
        .and_then(|unix| jiff::Timestamp::from_second(unix).ok());
    time.unwrap_or_default().to_string()
}
