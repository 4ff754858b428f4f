//! Longest-prefix match by `rte_fib`: DIR-24-8 for IPv4, a 24-8-8... trie for IPv6.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::ptr::NonNull;

use packet::{MISS, Prefix, RouteError, RouteLookup};

use crate::eal::Eal;
use crate::error::Error;

/// How many prefixes a [`Fib`] has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FibCapacity {
    /// IPv4 prefixes.
    pub v4_routes: u32,
    /// IPv6 prefixes.
    pub v6_routes: u32,
}

impl Default for FibCapacity {
    fn default() -> Self {
        Self { v4_routes: 65_536, v6_routes: 16_384 }
    }
}

/// A forwarding table for both families: prefix to adjacency, fifteen bits as a two-byte entry stores it.
///
/// Changing it needs `&mut self`: `rte_fib` recycles its small tables without waiting for readers, so the worker
/// that looks up is the one that changes the table, between bursts. Default routes (0/0, ::/0) and others shorter
/// than eight bits do not belong here: each would fill millions of entries.
#[derive(Debug)]
pub struct Fib {
    v4: Table4,
    v6: Table6,
    /// What stands in `v6`, for [`Fib::rebuild_v6`].
    routes_v6: BTreeMap<([u8; 16], u8), u64>,
    name: String,
    capacity: FibCapacity,
    rebuilds: u64,
}

impl Fib {
    /// Makes an empty table. `name` is unique in the process, at most 20 characters.
    ///
    /// # Errors
    /// When the name is taken or DPDK's heap has no room: about 64 MiB plus 256 bytes a route.
    pub fn new(_eal: &Eal, name: &str, capacity: FibCapacity) -> Result<Self, Error> {
        Ok(Self {
            v4: Table4::new(&format!("{name}4"), capacity.v4_routes)?,
            v6: Table6::new(&format!("{name}6"), capacity.v6_routes)?,
            routes_v6: BTreeMap::new(),
            name: name.to_owned(),
            capacity,
            rebuilds: 0,
        })
    }

    /// Builds the IPv6 table anew from what stands in it.
    ///
    /// `rte_fib6` of DPDK 22.11 does not give back all the small tables that it reserved for a prefix when that is
    /// removed, so that after enough changes it reports a full table that is not.
    fn rebuild_v6(&mut self) -> Result<(), RouteError> {
        self.rebuilds += 1;
        let name = format!("{}6-{}", self.name, self.rebuilds);
        let mut table = Table6::new(&name, self.capacity.v6_routes).map_err(|_| RouteError::Full)?;
        for ((base, len), adjacency) in &self.routes_v6 {
            table.insert(base, *len, *adjacency)?;
        }
        self.v6 = table;
        Ok(())
    }
}

impl RouteLookup for Fib {
    #[inline]
    fn lookup_v4(&self, addresses: &[u32], adjacencies: &mut [u64]) {
        let count = addresses.len().min(adjacencies.len());
        // SAFETY: both slices hold `count` entries; DPDK's missing `const` aside, addresses are only read.
        unsafe {
            dpdk_sys::rte_fib_lookup_bulk(
                self.v4.0.as_ptr(),
                addresses.as_ptr().cast_mut(),
                adjacencies.as_mut_ptr(),
                count as i32,
            );
        }
    }

    #[inline]
    fn lookup_v6(&self, addresses: &[[u8; 16]], adjacencies: &mut [u64]) {
        let count = addresses.len().min(adjacencies.len());
        // SAFETY: both slices hold `count` entries; DPDK's missing `const` aside, addresses are only read.
        unsafe {
            dpdk_sys::rte_fib6_lookup_bulk(
                self.v6.0.as_ptr(),
                addresses.as_ptr().cast_mut().cast(),
                adjacencies.as_mut_ptr(),
                count as i32,
            );
        }
    }

    fn insert(&mut self, prefix: Prefix, adjacency: u64) -> Result<(), RouteError> {
        match prefix {
            Prefix::V4(base, len) => {
                // SAFETY: the table is ours and `&mut self` excludes lookups.
                let code = unsafe { dpdk_sys::rte_fib_add(self.v4.0.as_ptr(), base, len, adjacency) };
                if code < 0 { Err(RouteError::Full) } else { Ok(()) }
            }
            Prefix::V6(base, len) => {
                if self.v6.insert(&base, len, adjacency).is_err() {
                    self.rebuild_v6()?;
                    self.v6.insert(&base, len, adjacency)?;
                }
                self.routes_v6.insert((base, len), adjacency);
                Ok(())
            }
        }
    }

    fn remove(&mut self, prefix: Prefix) -> Result<(), RouteError> {
        let code = match prefix {
            // SAFETY: the table is ours and `&mut self` excludes lookups.
            Prefix::V4(base, len) => unsafe { dpdk_sys::rte_fib_delete(self.v4.0.as_ptr(), base, len) },
            Prefix::V6(base, len) => {
                self.routes_v6.remove(&(base, len)).ok_or(RouteError::Unknown)?;
                // SAFETY: as above, and `base` is sixteen bytes.
                unsafe { dpdk_sys::rte_fib6_delete(self.v6.0.as_ptr(), base.as_ptr(), len) }
            }
        };
        if code < 0 { Err(RouteError::Unknown) } else { Ok(()) }
    }
}

#[derive(Debug)]
struct Table4(NonNull<dpdk_sys::rte_fib>);

#[derive(Debug)]
struct Table6(NonNull<dpdk_sys::rte_fib6>);

// SAFETY: a table is plain memory of DPDK's heap without any tie to a thread; it is not Sync.
unsafe impl Send for Table4 {}
// SAFETY: as above.
unsafe impl Send for Table6 {}

/// A prefix longer than 24 bits may need tables of 256 entries of its own, in the trie one per further eight bits.
/// They cost address space, and memory only once used.
const SMALL_TABLES: u32 = 0x7fff;

impl Table4 {
    fn new(name: &str, routes: u32) -> Result<Self, Error> {
        let mut configuration = dpdk_sys::rte_fib_conf {
            type_: dpdk_sys::RTE_FIB_DIR24_8,
            default_nh: MISS,
            max_routes: i32::try_from(routes).unwrap_or(i32::MAX),
            ..Default::default()
        };
        configuration.__bindgen_anon_1.dir24_8 = dpdk_sys::rte_fib_conf__bindgen_ty_1__bindgen_ty_1 {
            nh_sz: dpdk_sys::RTE_FIB_DIR24_8_2B,
            num_tbl8: SMALL_TABLES.min(routes.max(256)),
        };
        let name = CString::new(name)?;
        // SAFETY: name and configuration are valid for the call, which copies both; -1 is SOCKET_ID_ANY.
        let raw = unsafe { dpdk_sys::rte_fib_create(name.as_ptr(), -1, &raw mut configuration) };
        NonNull::new(raw).map(Self).ok_or_else(|| Error::last("rte_fib_create"))
    }
}

impl Table6 {
    fn new(name: &str, routes: u32) -> Result<Self, Error> {
        let mut configuration = dpdk_sys::rte_fib6_conf {
            type_: dpdk_sys::RTE_FIB6_TRIE,
            default_nh: MISS,
            max_routes: i32::try_from(routes).unwrap_or(i32::MAX),
            ..Default::default()
        };
        configuration.__bindgen_anon_1.trie = dpdk_sys::rte_fib6_conf__bindgen_ty_1__bindgen_ty_1 {
            nh_sz: dpdk_sys::RTE_FIB6_TRIE_2B,
            num_tbl8: SMALL_TABLES.min(routes.saturating_mul(2).max(256)),
        };
        let name = CString::new(name)?;
        // SAFETY: name and configuration are valid for the call, which copies both; -1 is SOCKET_ID_ANY.
        let raw = unsafe { dpdk_sys::rte_fib6_create(name.as_ptr(), -1, &raw mut configuration) };
        NonNull::new(raw).map(Self).ok_or_else(|| Error::last("rte_fib6_create"))
    }

    fn insert(&mut self, base: &[u8; 16], len: u8, adjacency: u64) -> Result<(), RouteError> {
        // SAFETY: the table is ours, `&mut self` excludes lookups, and `base` is sixteen bytes.
        let code = unsafe { dpdk_sys::rte_fib6_add(self.0.as_ptr(), base.as_ptr(), len, adjacency) };
        if code < 0 { Err(RouteError::Full) } else { Ok(()) }
    }
}

impl Drop for Table4 {
    fn drop(&mut self) {
        // SAFETY: the table is ours and no lookup can run: this is the owner.
        unsafe { dpdk_sys::rte_fib_free(self.0.as_ptr()) };
    }
}

impl Drop for Table6 {
    fn drop(&mut self) {
        // SAFETY: the table is ours and no lookup can run: this is the owner.
        unsafe { dpdk_sys::rte_fib6_free(self.0.as_ptr()) };
    }
}
