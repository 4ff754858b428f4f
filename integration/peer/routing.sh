# In the guest: zebra and ospfd with the configuration in /peer/frr.conf.
set -e
mkdir -p /run/frr /etc/frr; chown frr:frr /run/frr
rm -f /etc/frr/*.conf; : >/etc/frr/vtysh.conf
for daemon in zebra ospfd; do /usr/lib/frr/$daemon -d -A 127.0.0.1 -P 0 --log file:/run/frr/$daemon.log; done
for _ in $(seq 100); do [ -S /run/frr/ospfd.vty ] && [ -S /run/frr/zebra.vty ] && break; sleep 0.1; done
vtysh -f /peer/frr.conf
