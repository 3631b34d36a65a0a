//! The forms of single values that stand in many places.

use schemars::JsonSchema;

/// A duration in whole numbers with their units `h`, `m`, `s` and `ms`.
#[derive(JsonSchema)]
#[schemars(title = "duration", extend("pattern" = "^[0-9]+(h|m|s|ms)( ?[0-9]+(h|m|s|ms))*$"))]
pub struct Time(pub String);

/// A number of bytes with its unit: `MiB` and `GiB` count by 1024, `MB` and `GB` by 1000.
#[derive(JsonSchema)]
#[schemars(title = "size", extend("pattern" = "^[0-9]+(\\.[0-9]{1,3})? ?([KMGT]i?)?B$"))]
pub struct Size(pub String);

/// A share with its percent sign.
#[derive(JsonSchema)]
#[schemars(title = "percentage", extend("pattern" = "^[0-9]+(\\.[0-9]{1,3})?%$"))]
pub struct Percentage(pub String);
