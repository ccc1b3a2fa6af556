//! Parameters of requests: none gets lost, and none reaches the rows of another request.

use std::time::Duration;

use serde_json::{Value, json};

use crate::backend::{Backend, model, rows};
use crate::common::http::post;
use crate::common::server::Server;
use crate::common::wait::until;

const INFER: &str = "/v2/models/m/infer";

#[tokio::test]
async fn batches_hold_requests_with_equal_parameters_and_pass_them_on() {
    let backend = Backend::start(Duration::ZERO).await;
    let server =
        Server::start(&model(&[&backend], r#""batch": {"max_size": 4, "delay_ms": 300},"#), "").await;
    let at = server.http();
    let of = |row: i32| match row % 4 {
        0 => "",
        1 => r#""parameters": {"temperature": 0.3},"#,
        2 => r#""parameters": {"temperature": 0.3, "timeout": 900000, "priority": 2},"#,
        _ => r#""parameters": {"temperature": "0.3"},"#,
    };
    let asked: Vec<_> = (0..16)
        .map(|row| {
            let body = rows(&[[row, row]], of(row));
            tokio::spawn(async move { post(at, INFER, &body).await })
        })
        .collect();
    for (row, asked) in asked.into_iter().enumerate() {
        let reply = asked.await.unwrap();
        assert_eq!((reply.code, &reply.json()["outputs"][0]["data"]), (200, &json!([11.0 * row as f64])));
    }
    let batches = backend.asked();
    for batch in &batches {
        let data = batch["inputs"][0]["data"].as_array().unwrap();
        for row in data.iter().step_by(2).map(|row| row.as_f64().unwrap() as i32) {
            // What the server obeys itself is not passed on.
            let expected = match row % 4 {
                0 => Value::Null,
                1 | 2 => json!({"temperature": 0.3}),
                _ => json!({"temperature": "0.3"}),
            };
            assert_eq!(batch["parameters"], expected, "row {row}");
        }
    }
    assert!(batches.len() < 16, "requests with equal parameters share batches");
}

#[tokio::test]
async fn groups_hold_requests_with_equal_parameters_and_parity_models_get_them() {
    let backend = Backend::start(Duration::from_millis(20)).await;
    let coded = r#""redundancy": {"policy": "coded", "code": {"name": "sum", "k": 2}, "group_delay_ms": 5000,
        "complete": false},"#;
    let server = Server::start(&model(&[&backend], coded), "").await;
    let at = server.http();
    for (x, temperature) in [(1, 0.1), (2, 0.2), (3, 0.1), (4, 0.2)] {
        let body = rows(&[[x, 0]], &format!(r#""parameters": {{"temperature": {temperature}}},"#));
        let body = body.replace(r#""name": "x","#, r#""name": "x", "parameters": {"content_type": "np"},"#);
        let reply = post(at, INFER, &body).await;
        assert_eq!(reply.code, 200, "{reply:?}");
    }
    let parities = || -> Vec<Value> {
        backend.asked().into_iter().filter(|call| call["model"] == "m-parity-0").collect()
    };
    until("two parity queries", async || parities().len() == 2).await;
    let found: Vec<_> = parities()
        .iter()
        .map(|call| (call["inputs"][0]["data"][0].as_f64(), call["parameters"].clone()))
        .collect();
    let expected = [(4.0, 0.1), (6.0, 0.2)].map(|(sum, t)| (Some(sum), json!({"temperature": t})));
    assert_eq!(found, expected);
    for call in backend.asked() {
        assert_eq!(call["inputs"][0]["parameters"], json!({"content_type": "np"}));
    }
}

#[tokio::test]
async fn parameters_that_nobody_obeys_are_refused() {
    let backend = Backend::start(Duration::ZERO).await;
    let refuses = model(&[&backend], r#""parameters": "refuse","#);
    let synthetic =
        refuses.replace(r#""name": "m""#, r#""name": "s""#).replace(r#""parameters": "refuse","#, "");
    let (before, _) = synthetic.split_once(r#""instances""#).unwrap();
    let synthetic = format!(r#"{before}"instances": [{{"synthetic": {{}}}}]}}"#);
    let server = Server::start(&format!("{refuses}, {synthetic}"), "").await;
    let at = server.http();
    let own = r#""parameters": {"timeout": 900000, "priority": 1, "parm_allow_reconstructed": false},"#;
    for (model, expected) in [("m", "which the model refuses"), ("s", "which the model does not have")] {
        let path = format!("/v2/models/{model}/infer");
        assert_eq!(post(at, &path, &rows(&[[1, 2]], own)).await.code, 200);
        let other = post(at, &path, &rows(&[[1, 2]], r#""parameters": {"temperature": 1},"#)).await;
        assert_eq!(other.code, 400);
        assert!(other.error().contains("'temperature'") && other.error().contains(expected), "{other:?}");
        let of_input = rows(&[[1, 2]], "")
            .replace(r#""name": "x","#, r#""name": "x", "parameters": {"content_type": "np"},"#);
        assert_eq!(post(at, &path, &of_input).await.code, 400);
        for (more, expected) in [
            (
                r#""outputs": [{"name": "y", "parameters": {"scale": 2}}],"#,
                "the parameter 'scale' of output 'y'",
            ),
            (r#""outputs": [{"name": "y"}, {"name": "y"}],"#, "found the output 'y' twice"),
            (r#""parameters": {"sequence_start": true},"#, "expected its sequence_id"),
            (r#""parameters": {"sequence_id": 3, "sequence_end": 1},"#, "found sequence_end"),
        ] {
            let reply = post(at, &path, &rows(&[[1, 2]], more)).await;
            assert_eq!((reply.code, reply.error().contains(expected)), (400, true), "{reply:?}");
        }
    }
}
