//! Servers as they are: what each of them understands, says and leaves out.

use axum::body::Body;
use http::Response;
use parm_config::{Encoding, Remote};
use parm_oip::instance::{CallContext, CallError};
use parm_oip::{Datatype, Error, Status};

use crate::fake::*;

/// How a server gets tensors.
fn is_binary(seen: &Seen) -> bool {
    seen.headers.contains_key("inference-header-content-length")
}

fn auto(fake: &Fake) -> std::sync::Arc<dyn parm_oip::instance::Instance> {
    client(&fake.url(), fake.address, Encoding::Auto)
}

#[tokio::test]
async fn triton_says_that_it_knows_binary() {
    let fake = Fake::new(|seen| match &*seen.asked {
        "GET /v2" => json(
            200,
            r#"{"name":"triton","version":"2.51.0","extensions":["classification","binary_tensor_data","statistics"]}"#,
        ),
        "GET /v2/models/m/ready" => json(200, ""),
        "POST /v2/models/m/infer" => binary_answer(),
        "POST /v2/models/other/infer" => {
            json(400, r#"{"error":"Request for unknown model: 'other' is not found"}"#)
        }
        _ => json(404, ""),
    })
    .await;
    let triton = auto(&fake);
    assert_eq!(triton.ready("m", "").await, Ok(()));
    for _ in 0..2 {
        assert_eq!(floats(&infer(&triton).await.unwrap()), [1.5]);
    }
    let asked = ["GET /v2", "GET /v2/models/m/ready", "POST /v2/models/m/infer", "POST /v2/models/m/infer"];
    assert_eq!(fake.asked(), asked);
    let last = fake.last();
    assert_eq!(last.header("content-type"), Some("application/octet-stream"));
    let header: usize = last.header("inference-header-content-length").unwrap().parse().unwrap();
    assert!(last.body[..header].starts_with(br#"{"id":"parm-"#), "{:?}", last.body);
    assert_eq!(last.body[header..], [0.0_f32, 1.0, 2.0].map(f32::to_le_bytes).concat());
    // An error says nothing against binary.
    let mut other = request(3);
    "other".clone_into(&mut other.model);
    let error = triton.infer(other, CallContext::default()).await.unwrap_err();
    assert_eq!(error, CallError::Refused(Error::invalid("Request for unknown model: 'other' is not found")));
    assert!(is_binary(&fake.last()));
}

#[tokio::test]
async fn mlserver_has_no_binary_and_is_sent_json_from_then_on() {
    let fake = Fake::new(|seen| match &*seen.asked {
        "GET /v2" => json(200, r#"{"name":"mlserver","version":"1.7.1","extensions":[]}"#),
        "POST /v2/models/m/infer" if is_binary(seen) => {
            json(422, r#"{"detail":[{"type":"json_invalid","loc":["body",0],"msg":"JSON decode error"}]}"#)
        }
        "POST /v2/models/m/infer" => answer(),
        _ => json(404, r#"{"error":"Model x not found"}"#),
    })
    .await;
    let mlserver = auto(&fake);
    for _ in 0..3 {
        assert_eq!(floats(&infer(&mlserver).await.unwrap()), [1.5]);
    }
    // The question, the trial in binary, and JSON.
    assert_eq!(fake.asked().len(), 1 + 1 + 3);
    let last = fake.last();
    assert_eq!(last.header("content-type"), Some("application/json"));
    assert!(last.body.starts_with(br#"{"id":"parm-"#) && last.body.ends_with(br#""data":[0.0,1.0,2.0]}]}"#));
    let unknown = mlserver.ready("x", "").await;
    assert_eq!(unknown, Err(CallError::Failed(Error::new(Status::NotFound, "Model x not found"))));
}

#[tokio::test]
async fn kserve_takes_binary_without_saying_so() {
    let fake = Fake::new(|seen| match &*seen.asked {
        "GET /v2" => {
            json(200, r#"{"name":"kserve","version":"0.21.0","extensions":["model_repository_extension"]}"#)
        }
        "POST /v2/models/m/infer" if is_binary(seen) => binary_answer(),
        _ => json(404, ""),
    })
    .await;
    let kserve = auto(&fake);
    for _ in 0..2 {
        assert_eq!(floats(&infer(&kserve).await.unwrap()), [1.5]);
    }
    assert_eq!(fake.asked().len(), 1 + 2);
}

#[tokio::test]
async fn kserve_wants_the_content_type_and_an_id_with_json() {
    let fake = Fake::new(|seen| {
        if seen.header("content-type") != Some("application/json") {
            return json(400, r#"{"error":"Unrecognized request format"}"#);
        }
        if !seen.body.starts_with(br#"{"id":"#) {
            return json(500, r#"{"error":"id: none is not an allowed value"}"#);
        }
        answer()
    })
    .await;
    let kserve = json_client(fake.address);
    assert_eq!(floats(&infer(&kserve).await.unwrap()), [1.5]);
    let first = fake.last().body;
    infer(&kserve).await.unwrap();
    assert_ne!(first, fake.last().body, "another id");
    // An id that is there stays.
    let mut named = request(3);
    "mine".clone_into(&mut named.id);
    kserve.infer(named, CallContext::default()).await.unwrap();
    assert!(fake.last().body.starts_with(br#"{"id":"mine","#));
}

#[tokio::test]
async fn torchserve_knows_only_json_and_says_nothing_of_models() {
    let missing = r#"{"code":404,"type":"ResourceNotFoundException","message":"Requested resource is not found, please refer to API document."}"#;
    let fake = Fake::new(move |seen| match &*seen.asked {
        // As it spells it.
        "GET /v2" => {
            json(200, r#"{"name":"Torchserve","version":"0.12.0","extenstion":["kserve","kubeflow"]}"#)
        }
        "GET /v2/health/ready" => json(200, r#"{"ready":true}"#),
        "POST /v2/models/m/infer" if is_binary(seen) => {
            json(503, r#"{"code":503,"type":"InternalServerException","message":"Prediction failed"}"#)
        }
        "POST /v2/models/m/infer" => answer(),
        _ => json(404, missing),
    })
    .await;
    let torchserve = auto(&fake);
    assert_eq!(torchserve.ready("m", "").await, Ok(()));
    assert_eq!(floats(&infer(&torchserve).await.unwrap()), [1.5]);
    assert!(!is_binary(&fake.last()));
    let error = torchserve.metadata("m", "").await.unwrap_err();
    let expected = "Requested resource is not found, please refer to API document.";
    assert_eq!(error, CallError::Failed(Error::new(Status::NotFound, expected)));
}

#[tokio::test]
async fn a_request_that_every_form_refuses_decides_nothing() {
    let fake = Fake::new(|seen| match &*seen.asked {
        "POST /v2/models/m/infer" if is_binary(seen) => binary_answer(),
        _ => json(400, r#"{"error":"no"}"#),
    })
    .await;
    let server = auto(&fake);
    let mut wrong = request(3);
    "other".clone_into(&mut wrong.model);
    let error = server.infer(wrong, CallContext::default()).await.unwrap_err();
    assert_eq!(error, CallError::Refused(Error::invalid("no")));
    infer(&server).await.unwrap();
    assert!(is_binary(&fake.last()));
}

#[tokio::test]
async fn servers_that_are_not_ready_say_so_in_several_ways() {
    let fake = Fake::new(|seen| match &*seen.asked {
        "GET /v2/models/says/ready" => json(200, r#"{"name":"says","ready":false}"#),
        "GET /v2/models/m/versions/2/ready" | "GET /v2/health/ready" => json(200, ""),
        _ => json(503, r#"{"detail":"Model not ready"}"#),
    })
    .await;
    let server = json_client(fake.address);
    let failed = |text| Err(CallError::Failed(Error::new(Status::Unavailable, text)));
    assert_eq!(server.ready("", "").await, Ok(()));
    assert_eq!(server.ready("m", "2").await, Ok(()));
    assert_eq!(server.ready("m", "").await, failed("Model not ready"));
    assert_eq!(server.ready("says", "").await, failed("it says that it is not ready"));
}

#[tokio::test]
async fn metadata_may_leave_out_what_they_like() {
    let fake = Fake::new(|_| {
        json(
            200,
            r#"{"name":"m","versions":null,"platform":"","inputs":[{"name":"x","datatype":"FP32","shape":[-1,3]}],"extra":{}}"#,
        )
    })
    .await;
    let metadata = json_client(fake.address).metadata("m", "").await.unwrap();
    assert_eq!((metadata.versions.len(), metadata.outputs.len()), (0, 0));
    assert_eq!((metadata.inputs[0].datatype, &metadata.inputs[0].shape[..]), (Datatype::Fp32, &[-1, 3][..]));
}

#[tokio::test]
async fn errors_keep_their_message_and_say_whose_fault_it_is() {
    for (code, body, expected) in [
        (400, r#"{"error":"bad"}"#, CallError::Refused(Error::invalid("bad"))),
        (422, r#"{"detail":"bad"}"#, CallError::Refused(Error::from_http(422, "bad"))),
        (405, "bad", CallError::Refused(Error::from_http(405, "bad"))),
        (413, "", CallError::Refused(Error::new(Status::TooLarge, "status 413 without a message"))),
        (404, r#"{"error":"who"}"#, CallError::Failed(Error::new(Status::NotFound, "who"))),
        (408, "slow", CallError::Failed(Error::from_http(408, "slow"))),
        (429, "busy", CallError::Failed(Error::from_http(429, "busy"))),
        (500, r#"{"error":"oops"}"#, CallError::Failed(Error::new(Status::Internal, "oops"))),
        (502, "<html>nginx</html>", CallError::Failed(Error::from_http(502, "<html>nginx</html>"))),
        (503, r#"{"code":503,"message":"no"}"#, CallError::Failed(Error::new(Status::Unavailable, "no"))),
        (504, "slow", CallError::Failed(Error::new(Status::DeadlineExceeded, "slow"))),
        (302, "", CallError::Unexpected(302)),
        (999, "", CallError::Unexpected(999)),
    ] {
        let fake = Fake::new(move |_| json(code, body)).await;
        assert_eq!(infer(&json_client(fake.address)).await, Err(expected), "{code}");
    }
    // What this server's own credentials are is not the client's fault.
    for code in [401, 403] {
        let fake = Fake::new(move |_| json(code, r#"{"error":"who are you"}"#)).await;
        let error = infer(&json_client(fake.address)).await.unwrap_err();
        let text = "the instance refuses this server's credentials: who are you";
        let expected = Error { code: Some(code), ..Error::new(Status::Unavailable, text) };
        assert_eq!(error, CallError::Failed(expected));
    }
}

#[tokio::test]
async fn a_server_is_told_its_own_name_and_its_own_headers() {
    let fake = Fake::new(|_| json(200, &ANSWER.replace(r#""model_name":"m","#, ""))).await;
    let port = fake.address.port();
    let remote = Remote {
        url: format!("http://localhost:{port}/proxy/"),
        encoding: Encoding::Json,
        headers: [("authorization".to_owned(), "Bearer us".to_owned())].into(),
        ..Remote::default()
    };
    let passed_on = [("traceparent", "00-1"), ("content-type", "multipart/form-data"), ("host", "them")];
    let headers = passed_on.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let call = CallContext { headers: headers.into(), ..CallContext::default() };
    let mut versioned = request(3);
    "a/b".clone_into(&mut versioned.model);
    "1".clone_into(&mut versioned.version);
    // The address is the caller's, whatever the name has.
    let named = parm_oip::client::connect(&remote, fake.address, LIMIT).unwrap();
    named.infer(versioned, call.clone()).await.unwrap();
    let seen = fake.last();
    assert_eq!(seen.asked, "POST /proxy/v2/models/a%2Fb/versions/1/infer");
    for (name, value) in [
        ("host", format!("localhost:{port}")),
        ("authorization", "Bearer us".to_owned()),
        ("traceparent", "00-1".to_owned()),
        ("content-type", "application/json".to_owned()),
        ("content-length", seen.body.len().to_string()),
    ] {
        assert_eq!(seen.header(name), Some(&*value), "{name}");
    }
    assert_eq!(seen.header("transfer-encoding"), None);
    let other = Remote { host: Some("model.example".to_owned()), ..remote };
    let other = parm_oip::client::connect(&other, fake.address, LIMIT).unwrap();
    other.infer(request(3), call).await.unwrap();
    assert_eq!(fake.last().header("host"), Some("model.example"));
}

#[tokio::test]
async fn an_answer_in_json_to_a_request_in_binary_is_read() {
    let fake = Fake::new(|_| answer()).await;
    let server = client(&fake.url(), fake.address, Encoding::Binary);
    assert_eq!(floats(&infer(&server).await.unwrap()), [1.5]);
}

#[tokio::test]
async fn a_server_may_send_its_answer_in_chunks() {
    let fake = Fake::new(|_| {
        let pieces = ANSWER.as_bytes().chunks(7).map(|piece| Ok::<_, std::io::Error>(piece.to_vec()));
        Response::new(Body::from_stream(tokio_stream::iter(pieces.collect::<Vec<_>>())))
    })
    .await;
    let server = json_client(fake.address);
    for _ in 0..2 {
        assert_eq!(floats(&infer(&server).await.unwrap()), [1.5]);
    }
    assert_eq!(fake.connections(), 1);
}
