//! A subject between two of its records, and what the next one does to it: the owner's rules without a store.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use crate::{
    decisions::{Amendments, Birth, Decisions},
    domain::{Cell, CellError, FOLD_VERSION, Offset, Parameters, PartitionId, Rules, RulesError, Subject},
    projector::lane::Ground,
    store::{Generation, Quarantine, redis::beside::Held},
};

/// A subject between two of its records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Its cell; `None` before the first record that was folded.
    pub cell: Option<Cell>,
    /// Where its key is on hold.
    pub quarantines: BTreeMap<PartitionId, Quarantine>,
}

/// All that decides what a record does, besides the state.
#[derive(Debug, Clone)]
pub struct Law {
    /// Of which generation.
    pub generation: Generation,
    parameters: Parameters,
    rules: Rules,
    amendments: Arc<Amendments>,
}

/// The generation's records cannot be folded by this program.
#[derive(Debug, thiserror::Error)]
pub enum LawError {
    /// It was born with another version of the fold.
    #[error(
        "generation {generation} is folded by version {born} of the fold, this program has version {FOLD_VERSION}: \
         run the version that feeds it"
    )]
    Version {
        /// Which generation.
        generation: u32,
        /// The fold's version at its birth.
        born: u32,
    },
    /// Its parameters are of no use.
    #[error("the parameters of generation {generation}: {error}")]
    Parameters {
        /// Which generation.
        generation: u32,
        /// What is wrong.
        error: RulesError,
    },
}

impl Law {
    /// The rules under which a generation was born, and what was decided since.
    pub fn new(birth: &Birth, decisions: &Decisions) -> Result<Self, LawError> {
        let (generation, born) = (birth.generation.0, birth.parameters.fold_version);
        if born != FOLD_VERSION {
            return Err(LawError::Version { generation, born });
        }
        let rules =
            Rules::new(&birth.parameters).map_err(|error| LawError::Parameters { generation, error })?;
        let (parameters, amendments) = (birth.parameters.clone(), decisions.of(birth));
        Ok(Law { generation: birth.generation, parameters, rules, amendments })
    }

    /// Whether something is decided about the record that was set aside.
    pub fn decides(&self, mark: &Quarantine) -> bool {
        !self.amendments.patches_of(mark.partition, mark.offset).is_empty()
    }

    /// The same without what is decided of these records of a partition; `None` where nothing is.
    pub fn without(&self, partition: PartitionId, records: &HashSet<Offset>) -> Option<Law> {
        let left_out = |at: PartitionId, offset| at == partition && records.contains(&offset);
        let amendments = self.amendments.without(left_out);
        let fewer = amendments.patches.len() < self.amendments.patches.len();
        fewer.then(|| Law { amendments: Arc::new(amendments), ..self.clone() })
    }

    /// What a subject's fold in a partition rests on.
    pub fn ground<'a>(&'a self, partition: PartitionId, subject: &'a Subject) -> Ground<'a> {
        Ground {
            partition,
            subject,
            parameters: &self.parameters,
            rules: &self.rules,
            amendments: &self.amendments,
        }
    }
}

impl State {
    /// What a generation holds, decoded.
    pub fn decode(key: &Subject, held: &Held) -> Result<Self, CellError> {
        let cell = held.cell.as_deref().map(|bytes| Cell::decode(key, bytes)).transpose()?;
        // Whether a gap is about to close is a note of the owner's.
        let told = |mark: &Quarantine| (mark.partition, Quarantine { heals: false, ..mark.clone() });
        let quarantines = held.quarantines.iter().map(told).collect();
        Ok(State { cell, quarantines })
    }

    /// What a generation would hold.
    pub fn encode(&self) -> Held {
        Held {
            cell: self.cell.as_ref().map(|cell| cell.encode().into()),
            quarantines: self.quarantines.values().cloned().collect(),
        }
    }

    /// The offset after the last record folded into the cell.
    pub fn applied(&self) -> Option<Offset> {
        self.cell.as_ref().map(Cell::applied)
    }
}
