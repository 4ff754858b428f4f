/*
 * Out-of-line copies of the static inline functions and macros of DPDK that the `dpdk` crate calls.
 * Each works on a whole burst, so that the call costs once per burst and not once per packet. Receive and
 * transmit are not here: the Rust side calls the driver through `rte_eth_fp_ops` directly.
 */
#pragma once

#include <stdint.h>

struct rte_mbuf;
struct rte_mempool;

/* rte_errno is a per-thread variable behind a macro. */
int culvert_errno(void);

/* Fills mbufs[0..count] and resets them; 0, or a negative errno with nothing allocated. */
int culvert_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count);
