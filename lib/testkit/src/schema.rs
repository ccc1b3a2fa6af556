//! Whether JSON, as the reports of tools, follows a JSON Schema, of those keywords that schemas of reports have.

use serde_json::Value;

use crate::Tool;

/// The report that a tool printed as JSON, checked to follow what `--schema` prints, of the tool or of a subcommand.
///
/// # Panics
/// If it does not, or is no JSON.
#[must_use]
pub fn report(tool: &str, command: &str, output: &[u8]) -> Value {
    let schema = Tool::new(tool).args(command).args("--schema").run().output();
    let [schema, report]: [Value; 2] = [&schema, output]
        .map(|text| serde_json::from_slice(text).unwrap_or_else(|error| panic!("{tool}: {error}")));
    check(&schema, &report);
    report
}

/// Checks that a value follows a schema, and that the schema names all of its keys.
///
/// # Panics
/// If not.
pub fn check(schema: &Value, value: &Value) {
    if let Err(wrong) = follows(schema, value) {
        panic!("{wrong}\n{value}\n{schema}");
    }
}

/// As [`check`]; the error says where the value does not follow the schema.
///
/// # Errors
/// The path and the value there.
///
/// # Panics
/// If the schema has a keyword that is not known here.
pub fn follows(schema: &Value, value: &Value) -> Result<(), String> {
    walk(schema, schema, value, "")
}

fn walk(root: &Value, schema: &Value, value: &Value, path: &str) -> Result<(), String> {
    let wrong = || Err(format!("{path}: found {value}"));
    let Some(keywords) = schema.as_object() else {
        return if *schema == true { Ok(()) } else { wrong() };
    };
    for (keyword, of) in keywords {
        match keyword.as_str() {
            "$schema"
            | "$defs"
            | "title"
            | "description"
            | "default"
            | "format"
            | "properties"
            | "additionalProperties" => {}
            "$ref" => {
                let place = of.as_str().and_then(|of| of.strip_prefix('#')).unwrap_or_default();
                walk(root, root.pointer(place).unwrap_or_else(|| panic!("no {of}")), value, path)?;
            }
            "type" => {
                let types = of.as_array().map_or(std::slice::from_ref(of), Vec::as_slice);
                if !types.iter().any(|of| is_of_type(value, of.as_str().unwrap_or_default())) {
                    return wrong();
                }
            }
            "const" | "enum" | "minimum" | "maximum" => {
                let is_beyond = |end: fn(f64, f64) -> bool| {
                    value.as_f64().zip(of.as_f64()).is_some_and(|(value, of)| end(value, of))
                };
                let fits = match keyword.as_str() {
                    "const" => value == of,
                    "enum" => list(of).contains(value),
                    "minimum" => !is_beyond(|value, of| value < of),
                    _ => !is_beyond(|value, of| value > of),
                };
                if !fits {
                    return wrong();
                }
            }
            "anyOf" | "oneOf" => {
                let fitting = list(of).iter().filter(|of| walk(root, of, value, path).is_ok()).count();
                if fitting == 0 || (keyword == "oneOf" && fitting > 1) {
                    return wrong();
                }
            }
            "minItems" | "maxItems" => {
                let found = value.as_array().map(|items| items.len() as u64);
                let is_beyond = |found: u64, of| if keyword == "minItems" { found < of } else { found > of };
                if found.zip(of.as_u64()).is_some_and(|(found, of)| is_beyond(found, of)) {
                    return wrong();
                }
            }
            "items" => {
                for (at, item) in list(value).iter().enumerate() {
                    walk(root, of, item, &format!("{path}/{at}"))?;
                }
            }
            "required" => {
                let object = value.as_object();
                let lacks = |name: &&Value| {
                    name.as_str().zip(object).is_some_and(|(name, object)| !object.contains_key(name))
                };
                if let Some(name) = list(of).iter().find(lacks) {
                    return Err(format!("{path}: found no {name}"));
                }
            }
            unknown => panic!("found the keyword {unknown}"),
        }
    }
    let Some(object) = value.as_object().filter(|_| schema["type"] == "object") else { return Ok(()) };
    for (name, value) in object {
        let of = schema["properties"].get(name).or(schema.get("additionalProperties"));
        let of = of.ok_or_else(|| format!("{path}: found the key {name}, which the schema does not have"))?;
        walk(root, of, value, &format!("{path}/{name}"))?;
    }
    Ok(())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("found the type {other}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_keyword_can_be_broken() {
        let schema = json!({
            "$defs": {"Side": {"oneOf": [{"type": "string", "const": "left"}, {"enum": ["right"]}]}},
            "type": "object",
            "required": ["n"],
            "properties": {
                "n": {"type": "integer", "minimum": 0, "maximum": 9},
                "m": {"type": ["integer", "null"], "minimum": 1},
                "side": {"anyOf": [{"$ref": "#/$defs/Side"}, {"type": "null"}]},
                "list": {"type": "array", "items": {"type": ["number", "null"]}, "minItems": 1, "maxItems": 2},
                "any": {"type": "object", "additionalProperties": true},
            },
        });
        let found = |value: Value| follows(&schema, &value).unwrap_err();
        check(&schema, &json!({"n": 3, "side": "left", "list": [0.5, null], "any": {"x": [1]}}));
        check(&schema, &json!({"n": 0, "m": null, "side": null}));
        for (value, message) in [
            (json!([]), ": found []"),
            (json!({}), ": found no \"n\""),
            (json!({"n": null}), "/n: found null"),
            (json!({"n": 10}), "/n: found 10"),
            (json!({"n": -1}), "/n: found -1"),
            (json!({"n": 1.5}), "/n: found 1.5"),
            (json!({"n": 1, "side": "up"}), "/side: found \"up\""),
            (json!({"n": 1, "list": [1, "x"]}), "/list/1: found \"x\""),
            (json!({"n": 1, "list": []}), "/list: found []"),
            (json!({"n": 1, "list": [1, 2, 3]}), "/list: found [1,2,3]"),
            (json!({"n": 1, "other": 1}), ": found the key other, which the schema does not have"),
        ] {
            assert_eq!(found(value), message);
        }
    }
}
