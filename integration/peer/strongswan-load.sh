# In the guest: gives swanctl the files of /peer, and loads them. SAs that run stay.
set -e
cp /peer/swanctl.conf /etc/swanctl/swanctl.conf
for kind in x509 x509ca private; do
    mkdir -p /etc/swanctl/$kind
    [ ! -e /peer/$kind.pem ] || cp /peer/$kind.pem /etc/swanctl/$kind/lab.pem
done
swanctl --load-all --noprompt
