//! GitHub's description of its API, as validators.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use anyhow::{Context as _, Result};
use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// The calls that are described, and GitHub's examples of what it answers.
pub(super) struct Description {
    pub(super) operations: Vec<Operation>,
    examples: Value,
}

/// One call.
pub(super) struct Operation {
    method: String,
    template: String,
    query: BTreeMap<String, Validator>,
    body: Option<Validator>,
    body_required: bool,
    answers: BTreeMap<u16, Option<Validator>>,
}

/// Compiled once for all models of a process: it takes longer than most tests.
static COMPILED: LazyLock<Result<Arc<Description>, String>> = LazyLock::new(|| {
    Description::compile()
        .map(Arc::new)
        .map_err(|error| format!("{error:#}"))
});

impl Description {
    /// The description, or what is wrong with the slice of it.
    pub(super) fn read() -> Result<Arc<Self>> {
        COMPILED.clone().map_err(anyhow::Error::msg)
    }

    fn compile() -> Result<Self> {
        let text = include_str!("../../github/description.json");
        let document: Value = serde_json::from_str(text)?;
        let compiler = Compiler {
            components: &document["components"],
        };
        let mut operations = Vec::new();
        for (template, methods) in object(&document["paths"])? {
            for (method, operation) in object(methods)? {
                let read = compiler.operation(method, template, operation);
                operations.push(read.with_context(|| format!("{method} {template}"))?);
            }
        }
        Ok(Self {
            operations,
            examples: document["examples"].clone(),
        })
    }

    /// GitHub's example of a thing, to be filled in.
    pub(super) fn example(&self, name: &str) -> Value {
        let example = &self.examples[name];
        assert!(
            example.is_object(),
            "no example of {name}: add it to the slice"
        );
        example.clone()
    }

    /// The call that a method and a path mean.
    pub(super) fn find(&self, method: &str, path: &str) -> Option<&Operation> {
        let fits = |one: &&Operation| {
            let parts = one.template.split('/').zip(path.split('/'));
            one.method.eq_ignore_ascii_case(method)
                && one.template.split('/').count() == path.split('/').count()
                && parts.into_iter().all(|(wanted, part)| {
                    wanted == part || (wanted.starts_with('{') && !part.is_empty())
                })
        };
        self.operations.iter().find(fits)
    }
}

struct Compiler<'a> {
    components: &'a Value,
}

impl Compiler<'_> {
    fn operation(&self, method: &str, template: &str, operation: &Value) -> Result<Operation> {
        let mut query = BTreeMap::new();
        for (name, schema) in object(&operation["query"])? {
            query.insert(name.clone(), self.validator(schema)?);
        }
        let mut answers = BTreeMap::new();
        for (status, schema) in object(&operation["answers"])? {
            let validator = match schema {
                Value::Null => None,
                schema => Some(self.validator(schema)?),
            };
            answers.insert(status.parse()?, validator);
        }
        let body = operation.get("body").map(|schema| self.validator(schema));
        Ok(Operation {
            method: method.to_owned(),
            template: template.to_owned(),
            query,
            body: body.transpose()?,
            body_required: operation["body_required"] == true,
            answers,
        })
    }

    /// A schema refers to others as parts of the document it stands in.
    fn validator(&self, schema: &Value) -> Result<Validator> {
        let document = json!({ "allOf": [schema], "components": self.components });
        let options = jsonschema::options().should_validate_formats(true);
        options
            .build(&document)
            .context("a schema of the description")
    }
}

impl Operation {
    /// What is wrong with a value of the query.
    pub(super) fn check_query(&self, name: &str, value: &str) -> Option<String> {
        let Some(validator) = self.query.get(name) else {
            return Some(format!("there is no parameter {name}"));
        };
        // A query has text alone: a number is meant where a number is wanted.
        let text = json!(value);
        let number = value
            .parse::<i64>()
            .map_or(Value::Null, |number| json!(number));
        match validator.is_valid(&text) || validator.is_valid(&number) {
            true => None,
            false => Some(format!("{value:?} is no value of {name}")),
        }
    }

    /// What is wrong with a body.
    pub(super) fn check_body(&self, body: Option<&Value>) -> Vec<String> {
        match (&self.body, body) {
            (Some(validator), Some(body)) => faults(validator, body),
            (None, Some(_)) => vec!["it has no body".to_owned()],
            (Some(_), None) if self.body_required => vec!["it has a body".to_owned()],
            (_, None) => Vec::new(),
        }
    }

    /// What is wrong with an answer of the model's own.
    pub(super) fn check_answer(&self, status: u16, body: &Value) -> Vec<String> {
        match self.answers.get(&status) {
            Some(Some(validator)) => faults(validator, body),
            // What any call may be answered is not told at each of them.
            Some(None) => Vec::new(),
            None if matches!(status, 401 | 403 | 404 | 429 | 500..) => Vec::new(),
            None => vec![format!("{status} is no answer to it")],
        }
    }
}

fn faults(validator: &Validator, value: &Value) -> Vec<String> {
    let told =
        |error: jsonschema::ValidationError<'_>| format!("{}: {error}", error.instance_path());
    validator.iter_errors(value).map(told).collect()
}

fn object(value: &Value) -> Result<&Map<String, Value>> {
    value.as_object().context("an object of the description")
}
