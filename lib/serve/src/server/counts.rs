//! The counters of the engine as metrics.

use parm_engine::Counters;

/// A counter of the engine, or several that differ in a label.
pub(super) struct Count {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) value: Value,
}

pub(super) enum Value {
    One(u64),
    By(&'static str, Vec<(&'static str, u64)>),
}

/// All counters of the engine. The pattern names every field, so that the compiler reports a missing one.
#[allow(clippy::too_many_lines)] // a table
pub(super) fn counts(counters: &Counters) -> Vec<Count> {
    let Counters {
        queries,
        rejected,
        cancelled,
        predictions,
        copies_won,
        reconstructed,
        shadow,
        approximate,
        default_deadline,
        default_failed,
        refused,
        late,
        late_after_reconstruction,
        batches,
        groups_full,
        groups_completed,
        groups_shorter,
        groups_unneeded,
        calls,
        parity_answers,
        parity_useless,
        work_cancelled,
        shed,
        dropped_late,
        calls_cancelled,
        failures,
        refusals,
        splits,
        undecodable,
        timeouts,
        retries,
        hedges,
        hedges_unpaid,
        reconstructions_unpaid,
        state_changes,
        agreed,
        disagreed,
        ejections,
        healed,
        ignored,
        out_of_order,
    } = *counters;
    let one = |name, help, value| Count { name, help, value: Value::One(value) };
    let by = |name, help, label, values: &[(&'static str, u64)]| Count {
        name,
        help,
        value: Value::By(label, values.to_vec()),
    };
    vec![
        one("parm_queries_total", "Queries that were accepted", queries),
        one("parm_rejected_total", "Queries that were rejected", rejected),
        one("parm_cancelled_queries_total", "Queries whose client gave up", cancelled),
        by(
            "parm_answers_total",
            "Answers to queries, by their source",
            "how",
            &[
                ("prediction", predictions),
                ("reconstructed", reconstructed),
                ("approximate", approximate),
                ("default_deadline", default_deadline),
                ("default_failed", default_failed),
                ("refused", refused),
            ],
        ),
        one("parm_late_answers_total", "Answers after the deadline", late),
        one(
            "parm_unrecoverable_total",
            "Queries whose calls all failed and that nothing rebuilt",
            default_failed,
        ),
        one(
            "parm_late_after_reconstruction_total",
            "Predictions that arrived after a reconstruction",
            late_after_reconstruction,
        ),
        one(
            "parm_shadow_reconstructed_total",
            "Queries that would have got a reconstruction, in shadow mode",
            shadow,
        ),
        by(
            "parm_agreement_total",
            "Reconstructions that were compared, as the model's task has it, with the prediction that arrived later",
            "agrees",
            &[("yes", agreed), ("no", disagreed)],
        ),
        one(
            "parm_undecodable_total",
            "Reconstructions that were not given, such as those that are not finite",
            undecodable,
        ),
        one("parm_batches_total", "Batches of queries", batches),
        by(
            "parm_groups_total",
            "Coding groups, by how they filled",
            "how",
            &[
                ("full", groups_full),
                ("completed", groups_completed),
                ("shorter", groups_shorter),
                ("unneeded", groups_unneeded),
            ],
        ),
        by(
            "parm_parity_answers_total",
            "Answers to batches of parity queries, by their use",
            "use",
            &[("useful", parity_answers.saturating_sub(parity_useless)), ("useless", parity_useless)],
        ),
        one("parm_calls_total", "Calls of instances", calls),
        by(
            "parm_failed_calls_total",
            "Calls without an answer, by cause, without cancelled calls",
            "why",
            &[("failed", failures), ("timeout", timeouts), ("refused", refusals)],
        ),
        by(
            "parm_cancelled_work_total",
            "Work that was no longer needed: running calls that were cancelled, and work that waited",
            "what",
            &[("call", calls_cancelled), ("waiting", work_cancelled)],
        ),
        one("parm_retries_total", "Calls that were sent again", retries),
        one("parm_split_batches_total", "Refused batches that were sent again request by request", splits),
        one("parm_hedges_issued_total", "Second calls for late ones", hedges),
        one("parm_hedges_won_total", "Replicas and second calls that answered first", copies_won),
        one(
            "parm_hedges_unpaid_total",
            "Late calls that were not sent again since the budget was spent",
            hedges_unpaid,
        ),
        one(
            "parm_reconstructions_unpaid_total",
            "Times that a reconstruction was withheld since max_reconstructed was reached",
            reconstructions_unpaid,
        ),
        one("parm_policy_changes_total", "Changes of the state of the policy auto", state_changes),
        one("parm_shed_total", "Parity queries and copies that were dropped under load", shed),
        one(
            "parm_dropped_late_total",
            "Waiting work that was dropped since no query could be answered by its deadline",
            dropped_late,
        ),
        one("parm_ejections_total", "Ejections of instances", ejections),
        one("parm_healed_total", "Ejected instances that got work again", healed),
        by(
            "parm_ignored_events_total",
            "Events that the serving core ignored, by cause",
            "why",
            &[("gone", ignored), ("out_of_order", out_of_order)],
        ),
    ]
}
