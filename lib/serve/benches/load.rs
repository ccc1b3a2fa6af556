//! How precise the load generator is: how late it sends, and what it adds to the latency of an instance
//! that answers at once.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use parm_oip::instance::Instance;
use parm_oip::load::{Plan, Queries, Source, measure};
use parm_oip::{Datatype, ModelMetadata, TensorMetadata};
use parm_serving::SyntheticInstance;
use parm_serving::runtime::{RowTensor, Spec};
use parm_workload::faults::{Behavior, Synthetic};
use parm_workload::{Arrivals, Row, Span, Trial, table};
use tokio::runtime::Runtime;
use tokio::sync::watch;

fn main() {
    let eight =
        |name: &str| RowTensor { name: name.to_owned(), datatype: Datatype::Fp32, shape: vec![8], bytes: 32 };
    let spec = Arc::new(Spec { inputs: vec![eight("x")], outputs: vec![eight("y")] });
    let x = TensorMetadata { name: "x".to_owned(), datatype: Datatype::Fp32, shape: vec![-1, 8] };
    let model = ModelMetadata { inputs: vec![x], ..ModelMetadata::default() };
    let queries = Arc::new(Queries::new("", &model, 1, &[], Source::Random(0)).expect("a model of 8 floats"));
    let behavior = Synthetic::new(Behavior::default(), 0, 0).expect("it answers at once");
    let instance: Arc<dyn Instance> = Arc::new(SyntheticInstance::new(behavior, spec));
    let runtime = Runtime::new().expect("a runtime");
    let (_stop, told) = watch::channel(false);
    let rows = [100.0, 1000.0, 5000.0, 10_000.0, 50_000.0].map(|rate| {
        let plan = Plan {
            name: None,
            trial: None,
            arrivals: Arrivals::Poisson,
            rate,
            seed: 0,
            warm_up: Duration::from_millis(500),
            span: Span::Time(Duration::from_secs(5)),
            timeout: Duration::from_secs(10),
            in_flight: 1000,
            slo: None,
            slices: None,
        };
        let summary =
            measure(runtime.handle(), &instance, &queries, &plan, &told, |_| Ok(ControlFlow::Continue(())))
                .expect("a thread");
        let trial = Trial::new(summary, Duration::ZERO);
        Row { name: None, rate, trials: vec![trial] }
    });
    print!("{}", table(&rows));
}
