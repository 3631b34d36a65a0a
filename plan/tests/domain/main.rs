//! The domain from outside: plans compiled, linted and carried out on a model
//! of a host, whose every event is folded as the agent folds them.

mod any;
mod compile;
mod history;
mod host;
mod lint;
mod sound;
mod state;
