// SPDX-License-Identifier: Apache-2.0

// Package pki reads the files by which hosts prove who they are to each other
// when their keys come by IKE: certificates, private keys and pre-shared keys.
//
// Parse turns the contents of one file into plain data, and Credentials that of
// the files of one tunnel into what the IKE daemon needs, or into the reason why
// not; Notes tells what will bite later, as a certificate that expires. All of
// them are pure. Store and Watcher are the parts that touch the file system.
//
// Files change at the same path, and not all at once: a certificate comes a
// moment before its key. Memory bridges that, so that no tunnel goes down for it.
//
// No content of a private key or a pre-shared key stands in a Problem or in
// anything that can print itself.
package pki
