"""Opens what ChaCha20-Poly1305 sealed. Each line of the file: keys with salt, IV, associated data, ciphertext with tag."""

import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

for line in open(sys.argv[1]):
    keys, iv, associated, sealed = line.split()
    for key in map(bytes.fromhex, keys.split(",")):
        try:
            nonce = key[32:] + bytes.fromhex(iv)
            plain = ChaCha20Poly1305(key[:32]).decrypt(nonce, bytes.fromhex(sealed), bytes.fromhex(associated))
        except InvalidTag:
            continue
        print(plain.hex())
        break
    else:
        sys.exit("none of the keys opens " + associated)
