//! Finds the distribution's DPDK with pkg-config, compiles the shim and generates the bindings.

use std::env;
use std::path::PathBuf;

/// What `pkg-config --cflags libdpdk` says but the `pkg-config` crate leaves out.
const CFLAGS: [&str; 3] = ["-include", "rte_config.h", "-march=corei7"];

/// Oldest DPDK whose ABI (23) these bindings were written against.
const MINIMUM_VERSION: &str = "22.11";

const FUNCTIONS: &[&str] = &[
    "culvert_.*",
    "rte_acl_(create|free|add_rules|build|classify|set_ctx_classify)",
    "rte_dev_(probe|remove)",
    "rte_eal_(init|cleanup)",
    "rte_eth_(allmulticast_enable|dev_close|dev_configure|dev_get_mtu|dev_get_port_by_name|dev_info_get)",
    "rte_eth_(dev_set_mtu|dev_socket_id|dev_start|dev_stop|link_get_nowait|macaddr_get|promiscuous_enable)",
    "rte_eth_(rx_queue_setup|stats_get|tx_queue_setup)",
    "rte_fib6?_(create|free|add|delete|lookup_bulk)",
    "rte_log_set_(global_level|level_pattern)",
    "rte_openlog_stream",
    "rte_mempool_(avail_count|obj_iter)",
    "rte_pktmbuf_(free|free_bulk|pool_create)",
    "rte_strerror",
    "rte_thread_(register|unregister)",
    "rte_version",
];

const TYPES: &[&str] = &[
    "rte_acl_(config|ctx|field|field_def|param|rule_data)",
    "rte_acl_classify_alg",
    "rte_eth_(conf|dev_info|fp_ops|link|rxconf|stats|txconf)",
    "rte_fib6?(_conf)?",
    "rte_mbuf",
    "rte_mempool",
];

const VARS: &[&str] = &[
    "RTE_ACL_(FIELD_TYPE|MAX|RESULTS).*",
    "RTE_ETH_(DEV_NO_OWNER|LINK_UP|MQ_TX_NONE|RX_OFFLOAD.*|TX_OFFLOAD.*)",
    "RTE_FIB6?_.*",
    "RTE_MAX_ETHPORTS",
    "RTE_PKTMBUF_HEADROOM",
    "rte_eth_fp_ops",
];

fn main() {
    for file in ["build.rs", "wrapper.h", "shim.h", "shim.c"] {
        println!("cargo:rerun-if-changed={file}");
    }
    let library = pkg_config::Config::new()
        .atleast_version(MINIMUM_VERSION)
        .probe("libdpdk")
        .expect("DPDK development files (Debian: libdpdk-dev)");
    let include_dirs: Vec<String> =
        library.include_paths.iter().map(|path| format!("-I{}", path.display())).collect();

    let mut shim = cc::Build::new();
    shim.file("shim.c").flag("-O3");
    for flag in include_dirs.iter().map(String::as_str).chain(CFLAGS) {
        shim.flag(flag);
    }
    shim.compile("culvert_dpdk_shim");

    let mut builder = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(&include_dirs)
        .clang_args(CFLAGS)
        .prepend_enum_name(false)
        .generate_comments(false)
        .layout_tests(true)
        .derive_default(true)
        // Packed bit-fields: bindgen cannot derive Debug for it.
        .no_debug("rte_gtp_psc_generic_hdr")
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()));
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    for name in TYPES {
        builder = builder.allowlist_type(name);
    }
    for name in VARS {
        builder = builder.allowlist_var(name);
    }
    let bindings = builder.generate().expect("bindgen over the DPDK headers (Debian: libclang-dev)");
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    bindings.write_to_file(out_dir.join("bindings.rs")).expect("OUT_DIR is writable");
}
