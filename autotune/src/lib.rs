//! Config ranking: the performance model that fills dispatch tables
