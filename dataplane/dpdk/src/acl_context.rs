//! One `rte_acl` context: an ordered list of IPv4 rules, first match wins.

use std::ffi::CString;
use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use dpdk_sys::{
    RTE_ACL_FIELD_TYPE_BITMASK as BITMASK, RTE_ACL_FIELD_TYPE_MASK as MASK,
    RTE_ACL_FIELD_TYPE_RANGE as RANGE, rte_acl_field, rte_acl_field_def, rte_acl_field_types,
    rte_acl_rule_data,
};
use packet::{FiveTuple, PortMatch};

use crate::error::{Error, check};

/// Protocol, source, destination, source port, destination port.
pub(crate) const FIELDS: usize = 5;

const fn field(kind: u32, size: u8, field_index: u8, input_index: u8, offset: usize) -> rte_acl_field_def {
    rte_acl_field_def { type_: kind as u8, size, field_index, input_index, offset: offset as u32 }
}

/// Where `rte_acl` finds the fields in a [`FiveTuple`]: the first is one byte, then come groups of four.
const DEFINITIONS: [rte_acl_field_def; FIELDS] = [
    field(BITMASK, 1, 0, 0, offset_of!(FiveTuple, protocol)),
    field(MASK, 4, 1, 1, offset_of!(FiveTuple, source)),
    field(MASK, 4, 2, 2, offset_of!(FiveTuple, destination)),
    field(RANGE, 2, 3, 3, offset_of!(FiveTuple, source_port)),
    field(RANGE, 2, 4, 3, offset_of!(FiveTuple, destination_port)),
];

const _: () = assert!(offset_of!(FiveTuple, destination_port) == offset_of!(FiveTuple, source_port) + 2);

/// A protocol, 0 for any.
pub(crate) fn protocol_field(protocol: u8) -> rte_acl_field {
    let mask = if protocol == 0 { 0 } else { u8::MAX };
    rte_acl_field {
        value: rte_acl_field_types { u8_: protocol },
        mask_range: rte_acl_field_types { u8_: mask },
    }
}

/// A prefix; rules, unlike keys, are in host byte order.
pub(crate) fn prefix_field(base: u32, len: u8) -> rte_acl_field {
    rte_acl_field {
        value: rte_acl_field_types { u32_: base },
        mask_range: rte_acl_field_types { u32_: u32::from(len) },
    }
}

/// A range of ports, inclusive.
pub(crate) fn ports_field(ports: PortMatch) -> rte_acl_field {
    rte_acl_field {
        value: rte_acl_field_types { u16_: ports.low },
        mask_range: rte_acl_field_types { u16_: ports.high },
    }
}

/// A rule of a context.
#[derive(Clone, Copy)]
pub(crate) struct ContextRule {
    /// What matches.
    pub(crate) fields: [rte_acl_field; FIELDS],
    /// What a packet gets whose first match this is; not zero.
    pub(crate) result: u32,
}

/// A rule in the layout of `RTE_ACL_RULE_DEF`.
#[derive(Clone, Copy)]
#[repr(C)]
struct RawRule {
    data: rte_acl_rule_data,
    fields: [rte_acl_field; FIELDS],
}

/// A built context.
#[derive(Debug)]
pub(crate) struct AclContext {
    raw: NonNull<dpdk_sys::rte_acl_ctx>,
}

// SAFETY: after the build a context is read-only memory; classifying keeps its state on the stack.
unsafe impl Send for AclContext {}
// SAFETY: as above.
unsafe impl Sync for AclContext {}

/// Contexts need names that are unique in the process.
static CONTEXTS: AtomicU64 = AtomicU64::new(0);

impl AclContext {
    /// Builds a context from at least one rule, in order of precedence.
    ///
    /// Takes milliseconds for a hundred rules and half a second for ten thousand: never on a worker.
    pub(crate) fn build(rules: &[ContextRule]) -> Result<Self, Error> {
        let raw_rules: Vec<RawRule> = rules
            .iter()
            .enumerate()
            .map(|(index, rule)| RawRule {
                data: rte_acl_rule_data {
                    category_mask: 1,
                    // The first rule has the highest priority.
                    priority: dpdk_sys::RTE_ACL_MAX_PRIORITY as i32 - index as i32,
                    userdata: rule.result,
                },
                fields: rule.fields,
            })
            .collect();
        let name = CString::new(format!("acl{}", CONTEXTS.fetch_add(1, Ordering::Relaxed)))?;
        let count = raw_rules.len() as u32;
        let parameters = dpdk_sys::rte_acl_param {
            name: name.as_ptr(),
            socket_id: -1,
            rule_size: size_of::<RawRule>() as u32,
            max_rule_num: count,
        };
        // SAFETY: `parameters` and its name are valid for the call, which copies both.
        let raw = unsafe { dpdk_sys::rte_acl_create(&raw const parameters) };
        let context = Self { raw: NonNull::new(raw).ok_or_else(|| Error::last("rte_acl_create"))? };
        // SAFETY: `raw_rules` holds `count` rules of the size that the context was made for.
        check("rte_acl_add_rules", unsafe {
            dpdk_sys::rte_acl_add_rules(raw, raw_rules.as_ptr().cast(), count)
        })?;
        let mut configuration =
            dpdk_sys::rte_acl_config { num_categories: 1, num_fields: FIELDS as u32, ..Default::default() };
        for (slot, definition) in configuration.defs.iter_mut().zip(DEFINITIONS) {
            *slot = definition;
        }
        // SAFETY: the configuration is valid for the call and describes the rules that were added.
        check("rte_acl_build", unsafe { dpdk_sys::rte_acl_build(raw, &raw const configuration) })?;
        Ok(context)
    }

    /// Writes the result of each key's first matching rule, 0 for none; as many as the shorter slice holds.
    pub(crate) fn classify(&self, keys: &[&FiveTuple], results: &mut [u32]) {
        let count = keys.len().min(results.len());
        // SAFETY: a slice of references is an array of valid pointers to keys, `results` has room for `count`
        // numbers, and the definitions stay within a key.
        unsafe {
            dpdk_sys::rte_acl_classify(
                self.raw.as_ptr(),
                keys.as_ptr().cast_mut().cast(),
                results.as_mut_ptr(),
                count as u32,
                1,
            );
        }
    }
}

impl Drop for AclContext {
    fn drop(&mut self) {
        // SAFETY: the context is ours and nothing classifies with it any more.
        unsafe { dpdk_sys::rte_acl_free(self.raw.as_ptr()) };
    }
}
