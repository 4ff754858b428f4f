//! Packet buffer pools, one per size class, made when first needed.

use dpdk::{Eal, Error, Pool};

/// Data bytes and number of buffers of each class: usual Ethernet; what an XDP socket can still take (its frames lie
/// within a page); jumbo frames.
const CLASSES: [(u16, u32); 3] = [(2048, 8191), (3456, 4095), (12288, 2047)];

/// The pools of the process.
#[derive(Debug)]
pub struct Pools {
    classes: [Option<Pool>; CLASSES.len()],
}

impl Pools {
    /// With the usual class, which is always needed.
    ///
    /// # Errors
    /// DPDK's heap has no room.
    pub fn new(eal: &Eal) -> Result<Self, Error> {
        let mut pools = Self { classes: [None; CLASSES.len()] };
        pools.fitting(eal, 0)?;
        Ok(pools)
    }

    /// The pool of the smallest class whose buffers hold `data_bytes`, or the largest.
    ///
    /// # Errors
    /// DPDK's heap has no room for it.
    pub fn fitting(&mut self, eal: &Eal, data_bytes: u16) -> Result<Pool, Error> {
        let class = CLASSES.iter().position(|(bytes, _)| *bytes >= data_bytes).unwrap_or(CLASSES.len() - 1);
        let (bytes, buffers) = CLASSES[class];
        match self.classes[class] {
            Some(pool) => Ok(pool),
            None => {
                let pool = Pool::new(eal, &format!("packets-{bytes}"), buffers, bytes)?;
                self.classes[class] = Some(pool);
                Ok(pool)
            }
        }
    }

    /// The pool with the largest buffers so far: for what comes by twins, whose MTU is that of any port.
    #[must_use]
    pub fn largest(&self) -> Option<Pool> {
        self.classes.iter().rev().find_map(|pool| *pool)
    }
}
