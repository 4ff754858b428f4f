# In the guest: starts iked with the kernel's IPsec (PF_KEY). Needs /peer/iked.conf.
set -e
modprobe af_key
grep -q ^_iked: /etc/passwd || echo '_iked:x:990:65534::/run/iked:/usr/sbin/nologin' >>/etc/passwd
mkdir -p /run/iked /var/empty /etc/iked/ca /etc/iked/certs /etc/iked/crls /etc/iked/private
chmod 755 /var/empty
for kind in ipv4 ipv6 fqdn ufqdn; do mkdir -p /etc/iked/pubkeys/$kind; done
# It wants a key pair even when all it has to do is shared secrets.
(umask 077; openssl ecparam -genkey -name prime256v1 -noout -out /etc/iked/private/local.key)
openssl ec -in /etc/iked/private/local.key -pubout -out /etc/iked/local.pub
cp /peer/iked.conf /etc/iked.conf
chmod 600 /etc/iked.conf
iked -n
setsid iked -d -vv >/peer/iked.log 2>&1 &
# What comes before it has read all of its configuration is answered, then dropped: its last word is "stickyaddress".
for _ in $(seq 100); do grep -q stickyaddress /peer/iked.log && exit 0; sleep 0.1; done
echo "iked did not come up"
exit 1
