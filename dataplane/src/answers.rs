//! Acknowledgements: a slot is acknowledged when the worker has applied all that came of it.

use std::collections::VecDeque;

use shm::{Reader, Refusal, Table};

/// What control is waiting to hear of one version of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The table.
    pub table: Table,
    /// The slot.
    pub slot: u32,
    /// The version that was read.
    pub version: u64,
    /// Why it is not in force, when that is known already.
    pub refusal: Option<Refusal>,
}

/// Answers that wait for the worker, in the order of its commands.
///
/// A slot can lead to several commands (a route with its next hop): its answer waits for the last of them, and is a
/// refusal when one of them was refused.
#[derive(Debug, Default)]
pub struct Answers {
    waiting: VecDeque<Vec<Answer>>,
    refusal: Option<Refusal>,
    given: bool,
}

impl Answers {
    /// A command was sent; `answers` are due when it is done. Commands without are parts of the next that has some.
    pub fn expect(&mut self, answers: Vec<Answer>) {
        self.waiting.push_back(answers);
    }

    /// Gives an answer that needs no command, after all that came before it: versions of a slot never go back.
    pub fn give_in_order(&mut self, reader: &Reader, answer: Answer) {
        match self.waiting.back_mut() {
            Some(last) => last.push(answer),
            None => self.give(reader, answer),
        }
    }

    /// The oldest command is done.
    pub fn done(&mut self, reader: &Reader, refusal: Option<Refusal>) {
        self.refusal = self.refusal.or(refusal);
        let answers = self.waiting.pop_front().unwrap_or_default();
        if answers.is_empty() {
            return;
        }
        let refusal = self.refusal.take();
        for answer in answers {
            self.give(reader, Answer { refusal: answer.refusal.or(refusal), ..answer });
        }
    }

    /// Whether answers were given since the last call: control wants to hear of it.
    pub fn were_given(&mut self) -> bool {
        std::mem::take(&mut self.given)
    }

    fn give(&mut self, reader: &Reader, answer: Answer) {
        self.given = true;
        match answer.refusal {
            None => reader.acknowledge(answer.table, answer.slot, answer.version),
            Some(refusal) => reader.refuse(answer.table, answer.slot, answer.version, refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shm::{Capacities, Region};

    fn answer(slot: u32, version: u64) -> Answer {
        Answer { table: Table::Routes, slot, version, refusal: None }
    }

    #[test]
    fn a_slot_is_answered_after_its_last_command_with_the_first_refusal() {
        let region = Region::anonymous(Capacities::small()).unwrap();
        let reader = region.reader().unwrap();
        let mut answers = Answers::default();
        answers.expect(vec![]);
        answers.expect(vec![answer(1, 2)]);
        answers.expect(vec![answer(2, 2)]);
        answers.done(&reader, Some(Refusal::NoSpace));
        assert_eq!(region.ack(Table::Routes, 1).applied, 0);
        answers.done(&reader, None);
        assert_eq!(region.ack(Table::Routes, 1).applied, 2);
        assert_eq!(region.ack(Table::Routes, 1).refused, Some(Refusal::NoSpace));
        answers.done(&reader, None);
        assert_eq!(region.ack(Table::Routes, 2).refused, None);
        assert!(answers.were_given() && !answers.were_given());
    }

    #[test]
    fn an_answer_without_command_does_not_overtake() {
        let region = Region::anonymous(Capacities::small()).unwrap();
        let reader = region.reader().unwrap();
        let mut answers = Answers::default();
        answers.give_in_order(&reader, answer(3, 2));
        assert_eq!(region.ack(Table::Routes, 3).applied, 2);
        answers.expect(vec![answer(3, 4)]);
        answers.give_in_order(&reader, answer(3, 6));
        assert_eq!(region.ack(Table::Routes, 3).applied, 2);
        answers.done(&reader, None);
        assert_eq!(region.ack(Table::Routes, 3).applied, 6);
    }
}
