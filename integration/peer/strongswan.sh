# In the guest: starts charon with the kernel's IPsec. Only the plug-ins that the lab needs: Debian's own list costs
# seconds for each swanctl call. Needs /peer/swanctl.conf. With $ROOT, charon is the one below that root.
set -e
cat >/etc/strongswan.conf <<'CONF'
charon {
    load = random nonce aes sha1 sha2 hmac kdf gcm curve25519 openssl pem pkcs1 pkcs8 x509 pubkey constraints kernel-netlink socket-default vici updown
    install_routes = no
    retransmit_timeout = 1.0
    retransmit_tries = 4
    filelog {
        main {
            path = /peer/charon.log
            time_format = %H:%M:%S
            flush_line = yes
            default = 1
            cfg = 2
            enc = 1
        }
    }
    plugins { vici { socket = unix:///run/charon.vici } }
    include /peer/charon-extra.conf
}
swanctl { load = pem pkcs1 pkcs8 x509 pubkey openssl random }
CONF
touch /peer/charon-extra.conf
rm -rf /etc/swanctl/conf.d; mkdir -p /etc/swanctl/conf.d
if [ -n "${ROOT:-}" ]; then
    [ -e "$ROOT/.whole" ] || { echo "no $ROOT: run deploy/packages install peers"; exit 1; }
    for dir in dev proc sys run peer; do mount --rbind "/$dir" "$ROOT/$dir"; done
    cp /etc/strongswan.conf "$ROOT/etc/"
fi
setsid chroot "${ROOT:-/}" /usr/lib/ipsec/charon </dev/null >/dev/null 2>&1 &
for _ in $(seq 150); do swanctl --stats >/dev/null 2>&1 && break; sleep 0.1; done
