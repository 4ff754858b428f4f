# In the guest: starts pluto with the kernel's IPsec. Needs /peer/ipsec.conf and /peer/ipsec.secrets.
set -e
mkdir -p /run/pluto /var/lib/ipsec/nss
cp /peer/ipsec.conf /peer/ipsec.secrets /etc/
chmod 600 /etc/ipsec.secrets
ipsec initnss
ipsec pluto --config /etc/ipsec.conf --logfile /peer/pluto.log
for _ in $(seq 100); do ipsec whack --status >/dev/null 2>&1 && break; sleep 0.1; done
ipsec auto --add gre
