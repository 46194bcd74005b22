//! The rules that make the protocol right, by name, so that tests can break one and see that the simulation notices.

/// A rule that a test may break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// A request is answered when the copy has it, not when the writer has it.
    AnswerByTheCopy,
    /// The writer knows the nonces that it has taken.
    KnowNonces,
    /// A refused request stays refused.
    KnowRefusals,
    /// A forward is taken in the term that it is meant for.
    ForwardsNameTheirTerm,
    /// A request is sent again to another writer only when the stream shows the newer term.
    ResendAfterTheNewTerm,
    /// What may have landed in a part of the stream that is lost is not sent again.
    ResendWhatIsNotLost,
    /// A plan is made by a copy that is complete.
    PlanByAWholeCopy,
    /// A commit that may have landed is not called refused.
    RefuseWhatCannotLand,
    /// Milliseconds in ids do not fall.
    IdsGrow,
    /// A node that was started again is not the writer of its former life.
    TermsBelongToALife,
    /// Messages are taken in the order of the stream.
    TakeInOrder,
    /// A request gets its answer in time, whatever happens.
    AnswerInTime,
    /// A full queue takes no more.
    QueuesAreBounded,
}

/// Whether the rule is in force; only tests break one.
#[cfg(not(test))]
pub(super) const fn keeps(_: Rule) -> bool {
    true
}

#[cfg(test)]
thread_local! {
    static BROKEN: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
pub(super) fn keeps(rule: Rule) -> bool {
    BROKEN.get() != Some(rule)
}

/// Breaks a rule on this thread, or mends all.
#[cfg(test)]
pub(super) fn break_rule(rule: Option<Rule>) {
    BROKEN.set(rule);
}
