# In the guest: starts pluto with the kernel's IPsec. Needs /peer/ipsec.conf and /peer/ipsec.secrets.
set -e
mkdir -p /run/pluto /var/lib/ipsec/nss
cp /peer/ipsec.conf /peer/ipsec.secrets /etc/
chmod 600 /etc/ipsec.secrets
ipsec initnss
# Certificates come into its database in PKCS#12, and the authority is trusted by a word of its own.
if [ -e /peer/x509.pem ]; then
  openssl pkcs12 -export -in /peer/x509.pem -inkey /peer/private.pem -certfile /peer/x509ca.pem -name lab \
    -passout pass: -out /run/pluto/lab.p12
  pk12util -i /run/pluto/lab.p12 -d sql:/var/lib/ipsec/nss -W ""
  certutil -A -d sql:/var/lib/ipsec/nss -n root -t CT,, -a -i /peer/x509ca.pem
fi
ipsec pluto --config /etc/ipsec.conf --logfile /peer/pluto.log
for _ in $(seq 100); do ipsec whack --status >/dev/null 2>&1 && break; sleep 0.1; done
ipsec auto --add gre
