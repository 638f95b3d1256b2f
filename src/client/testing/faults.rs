//! What goes wrong at a fake node, and how often it did.

/// What goes wrong at one node.
#[derive(Debug, Clone, Default)]
pub(in crate::client) struct Faults {
    /// Reads carry wrong checksums.
    pub(in crate::client) corrupt_reads: bool,
    /// That many commands are carried out and not answered: the connection breaks instead.
    pub(in crate::client) lost_answers: u32,
    /// That many commands are refused as such that nobody can understand.
    pub(in crate::client) bad_requests: u32,
    /// That many opens of append streams are neither carried out nor answered: the connection breaks instead. They may be
    /// carried out later: [`FakeCluster::carry_out_late`](super::FakeCluster::carry_out_late).
    pub(in crate::client) late_opens: u32,
    /// Append streams break as soon as they are open.
    pub(in crate::client) break_opened: bool,
    /// Append streams break after that many data messages, the last of which is carried out and not answered.
    pub(in crate::client) break_appends_after: Option<u32>,
    /// That many data messages of append streams arrive damaged, which ends their streams.
    pub(in crate::client) damaged_appends: u32,
    /// Append streams take data and never answer it, nor carry it out.
    pub(in crate::client) swallow_appends: bool,
    /// Append streams say of data that the leader has it, and it is never carried out.
    pub(in crate::client) only_write_appends: bool,
    /// Reads break after that many pieces.
    pub(in crate::client) break_reads_after: Option<u32>,
    /// The node says that it knows no leader.
    pub(in crate::client) no_leader: bool,
    /// Watches are refused with this code of a node, without effect.
    pub(in crate::client) refuse_watches: Option<&'static str>,
    /// Watches answer what does not parse.
    pub(in crate::client) malformed_watches: bool,
}

/// How often the faults of one node have come true: a test that injects one asserts that it met it.
#[derive(Debug, Clone, Default)]
pub(in crate::client) struct Fired {
    pub(in crate::client) corrupt_reads: u32,
    pub(in crate::client) lost_answers: u32,
    pub(in crate::client) bad_requests: u32,
    pub(in crate::client) late_opens: u32,
    pub(in crate::client) broken_opened: u32,
    pub(in crate::client) broken_appends: u32,
    pub(in crate::client) damaged_appends: u32,
    pub(in crate::client) swallowed_appends: u32,
    pub(in crate::client) only_written_appends: u32,
    pub(in crate::client) broken_reads: u32,
    /// Commands and opens refused for want of a leader.
    pub(in crate::client) no_leader: u32,
    pub(in crate::client) refused_watches: u32,
    pub(in crate::client) malformed_watches: u32,
}

/// Whether a fault that comes true a number of times does so now.
pub(super) fn fires(left: &mut u32, fired: &mut u32) -> bool {
    let fires = *left > 0;
    *left -= u32::from(fires);
    *fired += u32::from(fires);
    fires
}
