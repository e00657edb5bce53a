// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// espKey is what seals ESP by AES-GCM (RFC 4106).
type espKey struct {
	key  []byte // AES key
	salt []byte // 4 bytes
	esn  bool
}

// keyOf gives the key of a state with rfc4106(gcm(aes)).
func keyOf(s StateAdd) (espKey, error) {
	if len(s.Algs) != 1 || s.Algs[0].Type != "aead" {
		return espKey{}, errors.New("the state has no aead")
	}
	b, err := hex.DecodeString(strings.TrimPrefix(s.Algs[0].Key, "0x"))
	if err != nil || len(b) < 20 {
		return espKey{}, errors.New("the state's key is no key of AES-GCM")
	}
	return espKey{key: b[:len(b)-4], salt: b[len(b)-4:], esn: s.ESN}, nil
}

// seal gives an ESP packet (RFC 4303 2). The IV is the sequence number.
func (k espKey) seal(spi uint32, seq uint64, next uint8, text []byte) ([]byte, error) {
	block, err := aes.NewCipher(k.key)
	if err != nil {
		return nil, fmt.Errorf("seal esp: %w", err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("seal esp: %w", err)
	}
	b := binary.BigEndian.AppendUint32(nil, spi)
	b = binary.BigEndian.AppendUint32(b, uint32(seq))
	b = binary.BigEndian.AppendUint64(b, seq)
	nonce := append(append([]byte{}, k.salt...), b[8:16]...)
	return gcm.Seal(b, nonce, pad(text, next), k.aad(spi, seq)), nil
}

// aad is SPI and sequence number, of 64 bits with ESN (RFC 4106 5).
func (k espKey) aad(spi uint32, seq uint64) []byte {
	b := binary.BigEndian.AppendUint32(nil, spi)
	if k.esn {
		return binary.BigEndian.AppendUint64(b, seq)
	}
	return binary.BigEndian.AppendUint32(b, uint32(seq))
}

// pad puts the ESP trailer behind a text: to a multiple of 4, 1, 2, 3, …
func pad(text []byte, next uint8) []byte {
	b := append([]byte{}, text...)
	n := 0
	for (len(b)+2)%4 != 0 {
		n++
		b = append(b, byte(n))
	}
	return append(b, byte(n), next)
}
