// An ordered map whose copies share structure: copy is O(1), insert and erase O(log n) in time and new nodes.
// The Image, and what is published beside it, are made of these, so that applying a change costs what
// changed. A treap whose priorities are a hash of the key: the shape depends on the contents alone, never on
// history.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

namespace millrace {

template <class K, class V, class Hash = std::hash<K>, class Less = std::less<>>
class PersistentMap {
  struct Node;
  using Ref = std::shared_ptr<const Node>;
  struct Node {
    K key;
    V value;
    uint64_t priority;
    Ref left;
    Ref right;
  };

 public:
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  /// The value of `key`, or nullptr. Valid while this map or any copy that holds the entry lives.
  template <class Q>
  const V* find(const Q& key) const {
    const Node* n = root_.get();
    while (n != nullptr) {
      if (Less()(key, n->key)) {
        n = n->left.get();
      } else if (Less()(n->key, key)) {
        n = n->right.get();
      } else {
        return &n->value;
      }
    }
    return nullptr;
  }
  template <class Q>
  bool contains(const Q& key) const {
    return find(key) != nullptr;
  }

  void insert_or_assign(K key, V value) {
    const uint64_t priority = mix(Hash()(key));
    bool added = false;
    root_ = put(root_, std::move(key), std::move(value), priority, added);
    if (added) ++size_;
  }

  template <class Q>
  bool erase(const Q& key) {
    if (!contains(key)) return false;
    root_ = drop(root_, key);
    --size_;
    return true;
  }

  /// Visits entries in key order: f(const K&, const V&).
  template <class F>
  void for_each(F&& f) const {
    walk(root_.get(), f);
  }

  /// Visits entries with key >= from, in order, until f returns false.
  template <class Q, class F>
  void scan(const Q& from, F&& f) const {
    (void)scan_from(root_.get(), from, f);
  }

 private:
  static uint64_t mix(uint64_t x) {
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ull;
    return x ^ (x >> 33);
  }

  static Ref make(const Node& n, Ref left, Ref right) {
    return std::make_shared<const Node>(Node{n.key, n.value, n.priority, std::move(left), std::move(right)});
  }

  static bool above(const Node& a, const Node& b) {
    return a.priority != b.priority ? a.priority > b.priority : Less()(a.key, b.key);
  }

  static Ref put(const Ref& at, K&& key, V&& value, uint64_t priority, bool& added) {
    if (!at) {
      added = true;
      return std::make_shared<const Node>(Node{std::move(key), std::move(value), priority, nullptr, nullptr});
    }
    if (Less()(key, at->key)) {
      Ref left = put(at->left, std::move(key), std::move(value), priority, added);
      if (above(*left, *at)) return make(*left, left->left, make(*at, left->right, at->right));
      return make(*at, std::move(left), at->right);
    }
    if (Less()(at->key, key)) {
      Ref right = put(at->right, std::move(key), std::move(value), priority, added);
      if (above(*right, *at)) return make(*right, make(*at, at->left, right->left), right->right);
      return make(*at, at->left, std::move(right));
    }
    return std::make_shared<const Node>(Node{at->key, std::move(value), at->priority, at->left, at->right});
  }

  template <class Q>
  static Ref drop(const Ref& at, const Q& key) {
    if (Less()(key, at->key)) return make(*at, drop(at->left, key), at->right);
    if (Less()(at->key, key)) return make(*at, at->left, drop(at->right, key));
    return join(at->left, at->right);
  }

  static Ref join(const Ref& a, const Ref& b) {
    if (!a) return b;
    if (!b) return a;
    if (above(*a, *b)) return make(*a, a->left, join(a->right, b));
    return make(*b, join(a, b->left), b->right);
  }

  template <class F>
  static void walk(const Node* n, F& f) {
    if (n == nullptr) return;
    walk(n->left.get(), f);
    f(n->key, n->value);
    walk(n->right.get(), f);
  }

  template <class Q, class F>
  static bool scan_from(const Node* n, const Q& from, F& f) {
    if (n == nullptr) return true;
    if (Less()(n->key, from)) return scan_from(n->right.get(), from, f);
    if (!scan_from(n->left.get(), from, f)) return false;
    if (!f(n->key, n->value)) return false;
    return scan_from(n->right.get(), from, f);
  }

  Ref root_;
  size_t size_ = 0;
};

}  // namespace millrace
