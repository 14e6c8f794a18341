//! The state machine of a connection: life x read half x write half. Pure: no I/O, no clock.
//!
//! | input        | life                | read half        | write half          |
//! |--------------|---------------------|------------------|---------------------|
//! | `PeerFin`    |                     | any -> Ended     |                     |
//! | `EndHandled` |                     |                  | Open -> Finishing, unless half-open is allowed |
//! | `End`        |                     |                  | Open -> Finishing   |
//! | `Shutdown`   |                     |                  | Open -> Finishing   |
//! | `StopReading`|                     | Open, Piped -> Discarding |          |
//! | `Pipe`       |                     | Open -> Piped    |                     |
//! | `Leave`      |                     | Open, Piped -> Discarding | Open -> Finishing |
//! | `Close`      | Open -> Closing     | Open, Piped -> Discarding | Open -> Finishing |
//! | `FinSent`    | Closing -> Lingering|                  | -> Ended            |
//! | `Gone`       | -> Closed           | -> Ended         | -> Ended            |
//!
//! `Finishing` lasts until everything that was accepted is sent. The connection is over when both
//! halves have ended. It must end within the close timeout once nobody waits for it any more:
//! after `Leave` and `Close`, and after `End` or `EndHandled` where half-open connections are not
//! allowed.

/// How far the connection has come, from its owner's view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    Open,
    /// `close()` was called: what was accepted goes out, nothing comes in any more.
    Closing,
    /// For its owner it is closed. The descriptor stays to swallow late input, which would
    /// otherwise make the kernel answer with a RST that overtakes our last bytes.
    Lingering,
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ReadHalf {
    Open,
    /// Input goes to another connection, which this one is piped to.
    Piped,
    Discarding,
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WriteHalf {
    Open,
    Finishing,
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input {
    /// The peer finished its side.
    PeerFin,
    /// The owner was told of the peer's FIN and has had its chance to answer.
    EndHandled,
    End,
    Shutdown,
    StopReading,
    Pipe,
    /// As `Close`, but the owner waits for the peer's goodbye.
    Leave,
    Close,
    /// All that was accepted is in the kernel, followed by our FIN.
    FinSent,
    /// Reset, terminated, timed out.
    Gone,
}

/// The numbers are Bun's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i8)]
pub enum ReadyState {
    Shutdown = -2,
    Closed = 0,
    Established = 1,
    Handshaking = 2,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::struct_excessive_bools)]
pub struct State {
    life: Life,
    read: ReadHalf,
    write: WriteHalf,
    half_open: bool,
    bounded: bool,
    pub paused: bool,
    /// The owner is busy with what it was told last, and is to hear of nothing else meanwhile.
    pub held: bool,
}

impl State {
    pub fn new(allow_half_open: bool) -> Self {
        Self {
            life: Life::Open,
            read: ReadHalf::Open,
            write: WriteHalf::Open,
            half_open: allow_half_open,
            bounded: false,
            paused: false,
            held: false,
        }
    }

    pub fn apply(&mut self, input: Input) {
        match input {
            Input::PeerFin => self.read = ReadHalf::Ended,
            Input::EndHandled => {
                if !self.half_open {
                    self.finish_writing();
                    self.bounded = true;
                }
            }
            Input::End => {
                self.finish_writing();
                self.bounded |= !self.half_open;
            }
            Input::Shutdown => self.finish_writing(),
            Input::StopReading => self.stop_reading(),
            Input::Pipe => {
                if self.read == ReadHalf::Open {
                    self.read = ReadHalf::Piped;
                }
            }
            Input::Leave => self.leave(),
            Input::Close => {
                if self.life == Life::Open {
                    self.life = Life::Closing;
                    self.leave();
                    if self.write == WriteHalf::Ended {
                        self.life = Life::Lingering;
                    }
                }
            }
            Input::FinSent => {
                self.write = WriteHalf::Ended;
                if self.life == Life::Closing {
                    self.life = Life::Lingering;
                }
            }
            Input::Gone => {
                self.life = Life::Closed;
                self.read = ReadHalf::Ended;
                self.write = WriteHalf::Ended;
            }
        }
    }

    fn stop_reading(&mut self) {
        if self.read != ReadHalf::Ended {
            self.read = ReadHalf::Discarding;
        }
    }

    fn leave(&mut self) {
        self.stop_reading();
        self.finish_writing();
        self.bounded = true;
        self.paused = false;
        self.held = false;
    }

    fn finish_writing(&mut self) {
        if self.write == WriteHalf::Open {
            self.write = WriteHalf::Finishing;
        }
    }

    /// The owner still gets events.
    pub fn is_open(self) -> bool {
        self.life == Life::Open
    }

    /// Both ways are open and used, and nothing has begun to end.
    pub fn goes_on(self) -> bool {
        let open = self.read == ReadHalf::Open && self.write == WriteHalf::Open;
        self.is_open() && open && !(self.bounded | self.paused | self.held)
    }

    pub fn is_lingering(self) -> bool {
        self.life == Life::Lingering
    }

    pub fn is_closed(self) -> bool {
        self.life == Life::Closed
    }

    pub fn accepts_writes(self) -> bool {
        self.life == Life::Open && self.write == WriteHalf::Open
    }

    /// Our FIN follows as soon as the queue is empty.
    pub fn owes_fin(self) -> bool {
        self.write == WriteHalf::Finishing
    }

    pub fn fin_sent(self) -> bool {
        self.write == WriteHalf::Ended
    }

    pub fn read_ended(self) -> bool {
        self.read == ReadHalf::Ended
    }

    /// Input goes to the owner.
    pub fn delivers(self) -> bool {
        self.life == Life::Open && self.read == ReadHalf::Open
    }

    /// Input goes to the connection that this one is piped to.
    pub fn feeds_pipe(self) -> bool {
        self.read == ReadHalf::Piped
    }

    /// Input is taken from the kernel, to deliver it or to throw it away.
    pub fn wants_input(self) -> bool {
        !self.paused && !self.held && self.read != ReadHalf::Ended
    }

    pub fn is_over(self) -> bool {
        self.read == ReadHalf::Ended && self.write == WriteHalf::Ended
    }

    /// The close timeout applies.
    pub fn must_end_soon(self) -> bool {
        self.bounded && self.life != Life::Closed
    }

    pub fn ready_state(self) -> ReadyState {
        match (self.life, self.write) {
            (Life::Open, WriteHalf::Open) => ReadyState::Established,
            (Life::Open, _) => ReadyState::Shutdown,
            _ => ReadyState::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::iter;

    use super::*;

    const INPUTS: [Input; 10] = [
        Input::PeerFin,
        Input::EndHandled,
        Input::End,
        Input::Shutdown,
        Input::StopReading,
        Input::Pipe,
        Input::Leave,
        Input::Close,
        Input::FinSent,
        Input::Gone,
    ];

    fn after(half_open: bool, inputs: &[Input]) -> State {
        let mut state = State::new(half_open);
        for &input in inputs {
            state.apply(input);
        }
        state
    }

    #[test]
    fn a_peer_that_ends_is_answered_unless_half_open_is_allowed() {
        let closing = after(false, &[Input::PeerFin, Input::EndHandled]);
        assert!(closing.owes_fin() && closing.must_end_soon() && !closing.accepts_writes());
        let half = after(true, &[Input::PeerFin, Input::EndHandled]);
        assert!(half.accepts_writes() && !half.owes_fin() && !half.must_end_soon());
    }

    #[test]
    fn who_leaves_is_open_until_the_peer_has_left_too() {
        let leaving = after(true, &[Input::Leave, Input::FinSent]);
        assert!(leaving.is_open() && leaving.wants_input() && !leaving.delivers());
        assert!(leaving.must_end_soon() && !leaving.accepts_writes() && !leaving.is_over());
        let left = after(true, &[Input::Leave, Input::FinSent, Input::PeerFin]);
        assert!(left.is_open() && left.is_over());
    }

    #[test]
    fn writes_are_accepted_between_the_fin_and_the_end_of_its_handler() {
        assert!(after(false, &[Input::PeerFin]).accepts_writes());
    }

    #[test]
    fn end_keeps_reading_with_a_time_limit_only_where_half_open_is_not_allowed() {
        for half_open in [false, true] {
            let state = after(half_open, &[Input::End, Input::FinSent]);
            assert!(state.delivers() && !state.is_over());
            assert_eq!(state.must_end_soon(), !half_open);
            assert_eq!(state.ready_state(), ReadyState::Shutdown);
        }
        assert!(!after(false, &[Input::Shutdown, Input::FinSent]).must_end_soon());
    }

    #[test]
    fn close_discards_input_and_lingers_until_the_peer_is_done() {
        let state = after(true, &[Input::Close]);
        assert!(!state.is_open() && !state.delivers() && state.wants_input() && state.owes_fin());
        let state = after(true, &[Input::Close, Input::FinSent]);
        assert!(state.is_lingering() && !state.is_over() && state.must_end_soon());
        assert!(after(true, &[Input::Close, Input::FinSent, Input::PeerFin]).is_over());
        assert!(after(true, &[Input::End, Input::FinSent, Input::Close]).is_lingering());
    }

    #[test]
    fn piped_connections_deliver_nothing_and_stop_when_they_are_closed() {
        let state = after(false, &[Input::Pipe]);
        assert!(state.feeds_pipe() && !state.delivers() && state.wants_input());
        assert!(!after(false, &[Input::Pipe, Input::Close]).feeds_pipe());
        assert!(!after(false, &[Input::StopReading, Input::Pipe]).feeds_pipe());
        assert!(after(false, &[Input::Pipe, Input::PeerFin]).accepts_writes());
    }

    /// What the documentation's picture of the table is drawn from.
    const DRAWN: &str = include_str!("../../../docs/reference/states.csv");

    #[test]
    fn the_picture_in_the_documentation_is_of_this_table() {
        let transitions = transitions();
        assert!(
            DRAWN == transitions,
            "docs/reference/states.csv is to be:\n{transitions}"
        );
    }

    /// Each part's changes, over all states that can be reached.
    fn transitions() -> String {
        // Part, before, input, after; where it depends on the write half, that too.
        let mut found = BTreeMap::<[String; 5], [bool; 2]>::new();
        for half_open in [false, true] {
            let mut reached = vec![State::new(half_open)];
            let mut next = 0;
            while let Some(&before) = reached.get(next) {
                next += 1;
                for input in INPUTS.into_iter().filter(|&input| can_come(input, before)) {
                    let mut now = before;
                    now.apply(input);
                    if !reached.contains(&now) {
                        reached.push(now);
                    }
                    for (part, from, to) in changes(before, now) {
                        let with = match (part, input) {
                            ("life", Input::Close) => format!("{:?}", before.write),
                            _ => String::new(),
                        };
                        let change = [part.into(), from, format!("{input:?}"), to, with];
                        found.entry(change).or_default()[usize::from(half_open)] = true;
                    }
                }
            }
        }
        let rows = found.into_iter().map(|(change, modes)| {
            let mode = match modes {
                [true, true] => "",
                [true, false] => "not allowed",
                _ => "allowed",
            };
            format!("{},{mode}\n", change.join(","))
        });
        iter::once(String::from("part,from,input,to,write half,half-open\n"))
            .chain(rows)
            .collect()
    }

    fn can_come(input: Input, state: State) -> bool {
        match input {
            Input::EndHandled => state.read_ended(),
            Input::FinSent => state.owes_fin(),
            _ => true,
        }
    }

    fn changes(before: State, now: State) -> Vec<(&'static str, String, String)> {
        let life = [before.life, now.life].map(|life| format!("{life:?}"));
        let read = [before.read, now.read].map(|half| format!("{half:?}"));
        let write = [before.write, now.write].map(|half| format!("{half:?}"));
        [("life", life), ("read half", read), ("write half", write)]
            .into_iter()
            .filter(|(_, [from, to])| from != to)
            .map(|(part, [from, to])| (part, from, to))
            .collect()
    }

    #[test]
    #[cfg_attr(miri, ignore = "it takes hours")]
    fn no_sequence_of_inputs_leaves_the_invariants() {
        // Every sequence of five inputs, from both starts.
        for half_open in [false, true] {
            for sequence in 0..INPUTS.len().pow(5) {
                let mut state = State::new(half_open);
                let mut rest = sequence;
                for _ in 0..5 {
                    let before = state;
                    state.apply(INPUTS[rest % INPUTS.len()]);
                    rest /= INPUTS.len();
                    assert!(
                        !before.read_ended() || state.read_ended(),
                        "reading came back"
                    );
                    assert!(before.is_open() || !state.is_open(), "closed came back");
                    assert!(before.accepts_writes() || !state.accepts_writes());
                    assert!(!state.is_closed() || state.is_over());
                    assert!(!state.accepts_writes() || state.is_open());
                    assert!(!state.is_lingering() || !state.owes_fin());
                }
            }
        }
    }
}
