//! Calls without a runtime of one's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parm_config::{Encoding, Remote};
use parm_oip::client::Error;
use parm_oip::client::blocking::Caller;
use parm_oip::instance::CallError;
use tokio::runtime::Runtime;

use crate::fake::*;

const LONG: Duration = Duration::from_secs(10);

#[test]
fn so_many_calls_are_on_their_way_and_no_more() {
    let runtime = Runtime::new().unwrap();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (flying, highest) = (Arc::clone(&now), Arc::clone(&most));
    // Three by three; those after that are not answered.
    let (three, begun) = (Arc::new(tokio::sync::Barrier::new(3)), Arc::new(AtomicUsize::new(0)));
    let fake = runtime.block_on(Fake::start(None, move |seen| {
        let (flying, highest) = (Arc::clone(&flying), Arc::clone(&highest));
        let (three, begun) = (Arc::clone(&three), Arc::clone(&begun));
        Box::pin(async move {
            if seen.asked == "GET /v2/models/m" {
                return json(200, r#"{"name": "other", "inputs": [], "outputs": []}"#);
            }
            if seen.asked == "GET /v2/models/nix" {
                return json(404, r#"{"error": "it is unknown"}"#);
            }
            if begun.fetch_add(1, Ordering::SeqCst) >= 12 {
                std::future::pending::<()>().await;
            }
            let together = flying.fetch_add(1, Ordering::SeqCst) + 1;
            highest.fetch_max(together, Ordering::SeqCst);
            three.wait().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            flying.fetch_sub(1, Ordering::SeqCst);
            answer()
        })
    }));
    let url = format!("http://{}", fake.address);
    let remote = Remote { url: url.clone(), encoding: Encoding::Json, ..Remote::default() };
    let caller = Caller::new(3).unwrap();
    let (instance, metadata) = caller.reach(&remote, "m", "", LIMIT).unwrap();
    assert_eq!(metadata.name, "m", "the name that was asked for");
    let promises: Vec<_> = (0..12).map(|_| caller.call(&instance, request(3), LONG)).collect();
    for promise in promises {
        assert_eq!(floats(&promise.wait().unwrap()), [1.5]);
    }
    assert_eq!((now.load(Ordering::SeqCst), most.load(Ordering::SeqCst)), (0, 3));

    let unknown = caller.reach(&remote, "nix", "", LIMIT).err().unwrap();
    assert!(matches!(unknown, Error::Model { .. }), "{unknown}");
    assert_eq!(unknown.to_string(), format!("{url}: model nix: it is unknown"));

    let late = caller.call(&instance, request(3), Duration::from_millis(1)).wait();
    assert_eq!(late, Err(CallError::Timeout(Duration::from_millis(1))));
    let given_up = caller.call(&instance, request(3), LONG);
    drop(caller);
    assert!(matches!(given_up.wait(), Err(CallError::Unreachable(_))));
}

#[test]
fn a_call_whose_connection_breaks_off_is_made_once_more() {
    let runtime = Runtime::new().unwrap();
    // Each second request closes its connection.
    let (address, log) = runtime.block_on(raw(|_, request| match request {
        0 => vec![Step::Write(http("200 OK", "", ANSWER)), Step::Next],
        _ => vec![Step::Close],
    }));
    let caller = Caller::new(1).unwrap();
    let instance = json_client(address);
    for _ in 0..4 {
        assert_eq!(floats(&caller.call(&instance, request(3), LONG).wait().unwrap()), [1.5]);
    }
    let mut step = request(3);
    step.parameters.insert("sequence_id".to_owned(), parm_oip::Parameter::Int(1));
    let asked = || log.lock().unwrap().iter().filter(|(_, head)| head.is_some()).count();
    let before = asked();
    assert!(matches!(caller.call(&instance, step, LONG).wait(), Err(CallError::Unreachable(_))));
    assert_eq!(asked(), before + 1);
}
